{{/* Names, labels and images. All take (dict "root" $ "service" "auth-server") unless they say otherwise. */}}

{{/* Takes the root. */}}
{{- define "portico.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "portico.name" -}}
{{ include "portico.fullname" .root }}-{{ .service }}
{{- end }}

{{/* Takes the root: what every object of the release shares and a selector may use. */}}
{{- define "portico.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "portico.service-selector" -}}
{{ include "portico.selector" .root }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{/* Takes the root. */}}
{{- define "portico.labels" -}}
{{ include "portico.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: portico
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "portico.service-labels" -}}
{{ include "portico.labels" .root }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{/* The key of a service in the values: auth-server is authServer. */}}
{{- define "portico.values-key" -}}
{{ .service | replace "-" "_" | camelcase | untitle }}
{{- end }}

{{- define "portico.image" -}}
{{- $values := index .root.Values (include "portico.values-key" .) -}}
{{- $repository := printf "%s/%s" (trimSuffix "/" .root.Values.image.registry) .service -}}
{{- with $values.image.digest -}}
{{ $repository }}@{{ . }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .root.Values.image.tag }}
{{- end -}}
{{- end }}

{{/* Takes the root: the graph as YAML. */}}
{{- define "portico.graph" -}}
{{ .Files.Get "graph.yaml" }}
{{- end }}

{{/* The secret with a service's certificate. */}}
{{- define "portico.tls-secret" -}}
{{- if .root.Values.tls.certManager.enabled -}}
{{ include "portico.name" . }}-tls
{{- else -}}
{{- $key := include "portico.values-key" . -}}
{{- required (printf "tls.existingSecrets.%s: name the secret with tls.crt, tls.key and ca.crt, or enable tls.certManager" $key) (index .root.Values.tls.existingSecrets $key) -}}
{{- end -}}
{{- end }}
