{{/* Names and labels. Every name begins with the release's, so that two releases never meet. */}}

{{- define "roadstead.chart" -}}
{{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What finds the Pods of a component: call with (list $ "gateway"). These never change over a release's life. */}}
{{- define "roadstead.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: roadstead
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of a Pod: no version among them, so that another chart alone restarts nothing. */}}
{{- define "roadstead.podLabels" -}}
{{ include "roadstead.selector" . }}
app.kubernetes.io/part-of: roadstead
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of any other object. */}}
{{- define "roadstead.labels" -}}
{{- $root := index . 0 -}}
{{ include "roadstead.podLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ include "roadstead.chart" $root }}
{{- end }}

{{/* metadata of an object that has the component's name, (list $ "gateway"), or another, (list $ "keys" "gateway"). */}}
{{- define "roadstead.metadata" -}}
{{- $root := index . 0 -}}
name: {{ $root.Release.Name }}-{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "roadstead.labels" (list $root (last .)) | nindent 2 }}
{{- end }}

{{/* Cluster-scoped names carry the namespace too: releases of one name may live in several. */}}
{{- define "roadstead.clusterName" -}}
{{- $root := index . 0 -}}
{{ $root.Release.Namespace }}:{{ $root.Release.Name }}-{{ index . 1 }}
{{- end }}

{{- define "roadstead.secret.tokens" -}}
{{ .Values.tokens.existingSecret | default (printf "%s-tokens" .Release.Name) }}
{{- end }}

{{- define "roadstead.secret.keys" -}}
{{ .Values.clientKeys.existingSecret | default (printf "%s-keys" .Release.Name) }}
{{- end }}

{{- define "roadstead.secret.database" -}}
{{ .Values.postgres.existingSecret | default (printf "%s-database" .Release.Name) }}
{{- end }}

{{- define "roadstead.gatewayUrl" -}}
{{ .Values.gateway.url | default (printf "http://%s-gateway.%s/v1" .Release.Name .Release.Namespace) }}
{{- end }}

{{/* A cell's settings: the fields of head, over which the cell's own are laid. JSON; call with (list $ "cell-0"). */}}
{{- define "roadstead.cell" -}}
{{- $root := index . 0 -}}
{{- mergeOverwrite (deepCopy $root.Values.head) (deepCopy (index $root.Values.cells (index . 1) | default dict)) | toJson -}}
{{- end }}

{{- define "roadstead.firstCell" -}}
{{ keys .Values.cells | sortAlpha | first }}
{{- end }}
