{{/* What the operator has to know to make agents and workers; roadstead.adapters.kube.workloads reads it, strictly. */}}
{{- define "roadstead.workloads" -}}
release: {{ .Release.Name }}
image: {{ include "roadstead.image" (list . .Values.image.roadstead) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
imagePullSecrets: {{ .Values.image.pullSecrets | toJson }}
tokensSecret: {{ include "roadstead.secret.tokens" . }}
serviceAccounts:
  agent: {{ .Release.Name }}-agent
  worker: {{ .Release.Name }}-worker
cells:
  {{- range $cell := keys .Values.cells | sortAlpha }}
  {{ $cell }}: {{ $.Release.Name }}-head-{{ $cell }}.{{ $.Release.Namespace }}.svc:6379
  {{- end }}
{{- with .Values.workloads.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
httpHosts: {{ .Values.workloads.httpHosts | toJson }}
logLevel: {{ .Values.logLevel }}
labels: {{ .Values.commonLabels | toJson }}
agent:
  resources: {{ .Values.workloads.agent.resources | toJson }}
{{- end }}
