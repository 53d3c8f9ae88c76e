{{/* What all pods share: the restricted pod security standard, one volume of secrets, one of settings. */}}

{{- define "portico.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "portico.container-security" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* One file of the secrets' volume; takes (list "secret" "key" "file"). */}}
{{- define "portico.secret-file" -}}
- secret:
    name: {{ index . 0 | quote }}
    items:
      - key: {{ index . 1 | quote }}
        path: {{ index . 2 }}
{{- end }}

{{/* Every secret that a service of the graph may read, and no other. */}}
{{- define "portico.service-secrets" -}}
{{- $graph := include "portico.graph" .root | fromYaml -}}
{{- $node := index $graph.services .service -}}
{{- $values := .root.Values -}}
{{- $tls := include "portico.tls-secret" . -}}
{{ include "portico.secret-file" (list $values.keys.existingSecret $values.keys.key "keys.json") }}
{{ include "portico.secret-file" (list $values.redis.existingSecret (index $values.redis.keys (include "portico.values-key" .)) "redis-url") }}
{{- with $values.redis.caSecret }}
{{ include "portico.secret-file" (list . "ca.crt" "redis-ca.crt") }}
{{- end }}
- secret:
    name: {{ $tls | quote }}
    items:
      {{- range list "tls.crt" "tls.key" "ca.crt" }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
{{- if has "postgres" $node.stores }}
{{ include "portico.secret-file" (list $values.postgres.existingSecret (index $values.postgres.keys (include "portico.values-key" .)) "database-url") }}
{{- include "portico.postgres-ca" .root }}
{{- end }}
{{- end }}

{{/* Takes the root. */}}
{{- define "portico.postgres-ca" -}}
{{- with .Values.postgres.caSecret }}
{{ include "portico.secret-file" (list . "ca.crt" "postgres-ca.crt") }}
{{- end }}
{{- end }}

{{/* Takes the root. */}}
{{- define "portico.migrator-secrets" -}}
{{- $secret := default .Values.postgres.existingSecret .Values.postgres.migratorSecret -}}
{{ include "portico.secret-file" (list $secret .Values.postgres.keys.authServer "auth-server-url") }}
{{ include "portico.secret-file" (list $secret .Values.postgres.keys.registry "registry-url") }}
{{ include "portico.secret-file" (list .Values.administrator.existingSecret .Values.administrator.key "administrator-password") }}
{{- include "portico.postgres-ca" . }}
{{- end }}

{{/* Where pods go; takes (dict "root" $ "service" "…"). */}}
{{- define "portico.scheduling" -}}
{{- $values := index .root.Values (include "portico.values-key" .) -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Replicas of one service apart from one another. */}}
{{- define "portico.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ .root.Values.spread.zones }}
    labelSelector:
      matchLabels:
        {{- include "portico.service-selector" . | nindent 8 }}
    # Counts the replicas of one rollout only, so that an update ends as evenly as an installation.
    matchLabelKeys: [{{ .revisionLabel }}]
affinity:
  podAntiAffinity:
    {{- if .root.Values.spread.separateNodes }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "portico.service-selector" . | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "portico.service-selector" . | nindent 14 }}
    {{- end }}
{{- end }}

{{/* The pod of a service; takes (dict "root" $ "service" "…" "revisionLabel" "…" "claim" false). */}}
{{- define "portico.pod-template" -}}
{{- $values := index .root.Values (include "portico.values-key" .) -}}
{{- $graph := include "portico.graph" .root | fromYaml -}}
{{- $node := index $graph.services .service -}}
metadata:
  labels:
    {{- include "portico.service-labels" . | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/settings: {{ include "portico.service-toml" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "portico.name" . }}
  automountServiceAccountToken: false
  # Variables that begin with PORTICO_ are settings.
  enableServiceLinks: false
  # Longer than [process] drain_delay_ms and drain_grace_seconds together.
  terminationGracePeriodSeconds: 45
  securityContext:
    {{- include "portico.pod-security" . | nindent 4 }}
  {{- include "portico.scheduling" . | nindent 2 }}
  {{- include "portico.spread" . | nindent 2 }}
  containers:
    - name: {{ .service }}
      image: {{ include "portico.image" . | quote }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [--config, /etc/portico/config.toml]
      ports:
        {{- if $node.public }}
        - { name: http, containerPort: {{ $graph.ports.public }} }
        {{- end }}
        {{- if $node.internal }}
        - { name: internal, containerPort: {{ $graph.ports.internal }} }
        {{- end }}
        - { name: admin, containerPort: {{ $graph.ports.admin }} }
      startupProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 3
        timeoutSeconds: 2
        failureThreshold: 2
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "portico.container-security" . | nindent 8 }}
      volumeMounts:
        - { name: settings, mountPath: /etc/portico, readOnly: true }
        - { name: secrets, mountPath: /run/secrets/portico, readOnly: true }
        - { name: data, mountPath: /var/lib/portico }
  volumes:
    - name: settings
      configMap:
        name: {{ include "portico.name" . }}
    - name: secrets
      projected:
        # Read by the group (fsGroup), written by nobody.
        defaultMode: 0440
        sources:
          {{- include "portico.service-secrets" . | nindent 10 }}
    {{- if not .claim }}
    - name: data
      emptyDir:
        sizeLimit: {{ dig "storage" "size" "256Mi" $values }}
    {{- end }}
{{- end }}
