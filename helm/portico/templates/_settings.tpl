{{/* What each program reads. The tables are made here as data and written as TOML once. */}}

{{/*
Writes a table as TOML; takes (dict "table" … "path" ""). Scalars and lists are the same in JSON and TOML. Not Helm's
toToml: that writes whole numbers as floats, which the programs refuse.
*/}}
{{- define "portico.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $inner := ternary $key (printf "%s.%s" $path $key) (empty $path) }}
{{- $own := false }}
{{- range $value }}{{ if not (kindIs "map" .) }}{{ $own = true }}{{ end }}{{ end }}
{{- if $own }}

[{{ $inner }}]
{{- end }}
{{- include "portico.toml" (dict "table" $value "path" $inner) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes the root: logs, metrics and traces, the same for all. */}}
{{- define "portico.telemetry-settings" -}}
log_format: json
log_filter: {{ .Values.telemetry.logFilter | quote }}
trace_sample_ratio: {{ .Values.telemetry.traceSampleRatio }}
{{- with .Values.telemetry.otlpEndpoint }}
otlp_endpoint: {{ . | quote }}
{{- end }}
{{- end }}

{{/* A service's table as YAML, from the graph; takes (dict "root" $ "service" "…"). */}}
{{- define "portico.service-settings" -}}
{{- $root := .root -}}
{{- $graph := include "portico.graph" $root | fromYaml -}}
{{- $node := index $graph.services .service -}}
{{- $secrets := "/run/secrets/portico" -}}
admin_listen: "0.0.0.0:{{ $graph.ports.admin }}"
data_dir: /var/lib/portico/data
public_origin: {{ $root.Values.publicOrigin | quote }}
{{- if $node.public }}
listen: "0.0.0.0:{{ $graph.ports.public }}"
{{- end }}
{{- if and $node.public $root.Values.trustedProxies }}
http:
  trusted_proxies: {{ $root.Values.trustedProxies | toJson }}
{{- end }}
{{- if $node.internal }}
internal_listen: "0.0.0.0:{{ $graph.ports.internal }}"
{{- end }}
keys:
  file: {{ $secrets }}/keys.json
coordination:
  redis_url:
    file: {{ $secrets }}/redis-url
  {{- if $root.Values.redis.caSecret }}
  ca: {{ $secrets }}/redis-ca.crt
  {{- end }}
tls:
  cert: {{ $secrets }}/tls.crt
  key: {{ $secrets }}/tls.key
  ca: {{ $secrets }}/ca.crt
peers:
  {{- range $node.peers }}
  {{ . | replace "-" "_" }}: {{ printf "%s-internal:%v" (include "portico.name" (dict "root" $root "service" .)) $graph.ports.internal }}
  {{- end }}
{{- if has "postgres" $node.stores }}
database:
  url:
    file: {{ $secrets }}/database-url
{{- end }}
# The registry calls nobody outside, but checks addresses when they are registered.
outbound:
  allow: {{ $root.Values.outbound.allow | toJson }}
{{- if and (eq .service "auth-server") $root.Values.grpcOrigin }}
auth_server:
  grpc_origin: {{ $root.Values.grpcOrigin | quote }}
{{- end }}
# Requests still arrive until every balancer has heard that the pod is leaving.
process:
  drain_delay_ms: 8000
  drain_grace_seconds: 25
telemetry:
  {{- include "portico.telemetry-settings" $root | nindent 2 }}
{{- end }}

{{/* A service's settings file: its own settings from the values, under what the chart sets. */}}
{{- define "portico.service-toml" -}}
{{- $set := include "portico.service-settings" . | fromYaml -}}
{{- $key := include "portico.values-key" . -}}
{{- $own := (index .root.Values $key).settings -}}
{{- $message := "%s.settings.%s: the chart sets this itself, from the values of that meaning; remove it" -}}
{{- range $name, $value := $own -}}
{{- $there := get $set $name -}}
{{- if and (kindIs "map" $value) (kindIs "map" $there) -}}
{{- range $inner, $_ := $value -}}
{{- if hasKey $there $inner -}}
{{- fail (printf $message $key (printf "%s.%s" $name $inner)) -}}
{{- end -}}
{{- end -}}
{{- else if hasKey $set $name -}}
{{- fail (printf $message $key $name) -}}
{{- end -}}
{{- end -}}
{{ include "portico.toml" (dict "table" (mergeOverwrite (deepCopy $own) $set) "path" "") | trim }}
{{ end }}

{{/* Takes the root. */}}
{{- define "portico.migrator-settings" -}}
{{- range $service := list "auth_server" "registry" }}
{{ $service }}:
  url:
    file: /run/secrets/portico/{{ $service | replace "_" "-" }}-url
{{- end }}
administrator:
  username: {{ .Values.administrator.username | quote }}
  password:
    file: /run/secrets/portico/administrator-password
wait:
  limit_seconds: {{ sub (int .Values.migrator.deadlineSeconds) 60 }}
telemetry:
  {{- include "portico.telemetry-settings" . | nindent 2 }}
{{- end }}

{{/* Takes the root. */}}
{{- define "portico.migrator-toml" -}}
{{ include "portico.toml" (dict "table" (include "portico.migrator-settings" . | fromYaml) "path" "") | trim }}
{{ end }}
