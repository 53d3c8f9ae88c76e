{{/* The host of an origin, without a port. */}}
{{- define "portico.host" -}}
{{- $host := (urlParse .).host -}}
{{- regexReplaceAll ":[0-9]+$" $host "" -}}
{{- end }}

{{/* Class and TLS of an ingress; takes (dict "root" $ "origin" "…"). */}}
{{- define "portico.ingress-front" -}}
{{- with .root.Values.ingress.className }}
ingressClassName: {{ . | quote }}
{{- end }}
{{- with .root.Values.ingress.tlsSecret }}
tls:
  - secretName: {{ . | quote }}
    hosts: [{{ include "portico.host" $.origin | quote }}]
{{- end }}
{{- end }}
