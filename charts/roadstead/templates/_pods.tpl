{{/* What all Pods of the chart have in common; they pass Pod Security "restricted". */}}

{{/* The beginning of a Pod's spec: call with (list $ "gateway" $mountsServiceAccountToken). */}}
{{- define "roadstead.pod" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ $root.Release.Name }}-{{ index . 1 }}
automountServiceAccountToken: {{ index . 2 }}
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* Where a Pod may run: call with (list $ "gateway" $settings). Without an affinity, Pods prefer different nodes. */}}
{{- define "roadstead.placement" -}}
{{- $settings := index . 2 -}}
{{- with $settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $settings.affinity }}
affinity:
  {{- toYaml $settings.affinity | nindent 2 }}
{{- else if has (index . 1) (list "operator" "gateway") }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "roadstead.selector" (list (index . 0) (index . 1)) | nindent 14 }}
{{- end }}
{{- end }}

{{- define "roadstead.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Variables of every container. */}}
{{- define "roadstead.env" -}}
- name: HOME
  value: /tmp
- name: ROADSTEAD_LOG_LEVEL
  value: {{ .Values.logLevel }}
{{- end }}

{{/* A probe by HTTP: call with (list "/healthz" "internal" period timeout failures). */}}
{{- define "roadstead.probe" -}}
httpGet:
  path: {{ index . 0 }}
  port: {{ index . 1 }}
periodSeconds: {{ index . 2 }}
timeoutSeconds: {{ index . 3 }}
failureThreshold: {{ index . 4 }}
{{- end }}

{{/* Tokens that a Pod needs and no others: call with (list $ "tokens" "door" "replica"); the first is the volume's name. */}}
{{- define "roadstead.tokens" -}}
- name: {{ index . 1 }}
  secret:
    secretName: {{ include "roadstead.secret.tokens" (index . 0) }}
    defaultMode: 0440
    items:
      {{- range slice . 2 }}
      - key: {{ . }}.token
        path: {{ . }}.token
      {{- end }}
{{- end }}

{{- define "roadstead.tmp" -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- end }}

{{/* The data of a Secret of the release in the cluster, as JSON; {} if there is none: call with (list $ "tokens"). */}}
{{- define "roadstead.kept" -}}
{{- $root := index . 0 -}}
{{- $live := lookup "v1" "Secret" $root.Release.Namespace (printf "%s-%s" $root.Release.Name (index . 1)) | default dict -}}
{{- $live.data | default dict | toJson -}}
{{- end }}
