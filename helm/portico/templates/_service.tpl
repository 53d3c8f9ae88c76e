{{/* The objects that every kind of service has; all take (dict "root" $ "service" "…"). */}}

{{- define "portico.metadata" -}}
metadata:
  name: {{ include "portico.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "portico.service-labels" . | nindent 4 }}
{{- end }}

{{- define "portico.service-account" -}}
apiVersion: v1
kind: ServiceAccount
{{ include "portico.metadata" . }}
automountServiceAccountToken: false
{{- end }}

{{- define "portico.config-map" -}}
apiVersion: v1
kind: ConfigMap
{{ include "portico.metadata" . }}
data:
  config.toml: |
    {{- include "portico.service-toml" . | nindent 4 }}
{{- end }}

{{- define "portico.deployment" -}}
{{- $values := index .root.Values (include "portico.values-key" .) -}}
apiVersion: apps/v1
kind: Deployment
{{ include "portico.metadata" . }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  # A replica leaves only when its successor is ready.
  strategy:
    type: RollingUpdate
    rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }
  selector:
    matchLabels:
      {{- include "portico.service-selector" . | nindent 6 }}
  template:
    {{- include "portico.pod-template" (merge (dict "revisionLabel" "pod-template-hash" "claim" false) .) | nindent 4 }}
{{- end }}

{{/* What the ingress reaches. */}}
{{- define "portico.public-service" -}}
{{- $graph := include "portico.graph" .root | fromYaml -}}
apiVersion: v1
kind: Service
{{ include "portico.metadata" . }}
spec:
  type: ClusterIP
  selector:
    {{- include "portico.service-selector" . | nindent 4 }}
  ports:
    - { name: http, port: {{ $graph.ports.public }}, targetPort: http, appProtocol: http }
    {{- if hasKey $graph.grpc .service }}
    # The same port of the pod; name and protocol tell ingress controllers to speak HTTP/2 without TLS.
    - { name: grpc, port: {{ add $graph.ports.public 1 }}, targetPort: http, appProtocol: kubernetes.io/h2c }
    {{- end }}
{{- end }}

{{/*
What the peers reach. It has no address of its own: the name resolves to every replica, and the callers share their
calls out and go on with another one when one is lost. Replicas that are not ready yet are in it, because auth-server
and registry become ready by hearing from each other.
*/}}
{{- define "portico.internal-service" -}}
{{- $graph := include "portico.graph" .root | fromYaml -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "portico.name" . }}-internal
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "portico.service-labels" . | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "portico.service-selector" . | nindent 4 }}
  ports:
    - { name: internal, port: {{ $graph.ports.internal }}, targetPort: internal }
{{- end }}

{{- define "portico.disruption-budget" -}}
{{- $values := index .root.Values (include "portico.values-key" .) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
{{ include "portico.metadata" . }}
spec:
  maxUnavailable: {{ $values.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready serves nobody: it never keeps a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "portico.service-selector" . | nindent 6 }}
{{- end }}

{{- define "portico.autoscaler" -}}
{{- $values := index .root.Values (include "portico.values-key" .) -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{{ include "portico.metadata" . }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind | default "Deployment" }}
    name: {{ include "portico.name" . }}
  minReplicas: {{ $values.autoscaling.minReplicas }}
  maxReplicas: {{ $values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: { type: Utilization, averageUtilization: {{ $values.autoscaling.cpuUtilization }} }
  behavior:
    # Streams that are open move when their replica goes: shrink slowly.
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        - { type: Pods, value: 1, periodSeconds: 60 }
{{- end }}

{{/* All of them but the workload itself. */}}
{{- define "portico.companions" -}}
{{- $graph := include "portico.graph" .root | fromYaml -}}
{{- $node := index $graph.services .service -}}
{{- $values := index .root.Values (include "portico.values-key" .) -}}
{{ include "portico.service-account" . }}
---
{{ include "portico.config-map" . }}
{{- if $node.public }}
---
{{ include "portico.public-service" . }}
{{- end }}
{{- if $node.internal }}
---
{{ include "portico.internal-service" . }}
{{- end }}
---
{{ include "portico.disruption-budget" . }}
{{- if $values.autoscaling.enabled }}
---
{{ include "portico.autoscaler" . }}
{{- end }}
{{- end }}

{{/* Annotations of a hook that has to succeed before anything else changes; takes its weight. */}}
{{- define "portico.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation
{{- end }}
