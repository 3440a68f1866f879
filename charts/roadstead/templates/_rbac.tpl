{{/* Rules that are granted either in the whole cluster or in each watched namespace. */}}

{{- define "roadstead.rules.models" -}}
- apiGroups: [roadstead.dev]
  resources: [localmodels]
  verbs: [list, watch, patch]
- apiGroups: [roadstead.dev]
  resources: [localmodels/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, delete]
{{- end }}

{{- define "roadstead.rules.uninstallModels" -}}
- apiGroups: [roadstead.dev]
  resources: [localmodels]
  verbs: [get, list, patch]
- apiGroups: [roadstead.dev]
  resources: [localmodels/status]
  verbs: [patch]
{{- end }}

{{/* A role and its binding to the account of a component: call with (dict "root" $ "component" … "name" … "namespace" … "rules" … "annotations" …). Without namespace: in the whole cluster. */}}
{{- define "roadstead.role" -}}
{{- $kind := empty .namespace | ternary "ClusterRole" "Role" -}}
{{- range $each := list $kind (print $kind "Binding") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $each }}
metadata:
  name: {{ $.name }}
  {{- with $.namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "roadstead.labels" (list $.root $.component) | nindent 4 }}
  {{- with $.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if eq $each $kind }}
rules:
  {{- $.rules | trim | nindent 2 }}
{{- else }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $.name }}
subjects:
  - kind: ServiceAccount
    name: {{ $.root.Release.Name }}-{{ $.component }}
    namespace: {{ $.root.Release.Namespace }}
{{- end }}
{{- end }}
{{- end }}
