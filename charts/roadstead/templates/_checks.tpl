{{/* What a schema cannot say. Each sentence begins with the field's path and ends with the remedy. */}}

{{/*
docs/reference/cluster.md (Versions) says why 1.34. Chart.yaml's kubeVersion is not used: it compares the server's whole
version string, which some builds leave empty.
*/}}
{{- define "roadstead.checks" -}}
{{- $minor := regexReplaceAll "[^0-9]" .Capabilities.KubeVersion.Minor "" | int }}
{{- if and (eq (print .Capabilities.KubeVersion.Major) "1") (lt $minor 34) }}
  {{- fail (printf "this cluster is Kubernetes 1.%d, and Roadstead needs 1.34 or newer: upgrade the cluster first." $minor) }}
{{- end }}
{{- range $cell := keys .Values.cells }}
  {{- $name := printf "%s-head-%s" $.Release.Name $cell }}
  {{- if gt (len $name) 52 }}
    {{- fail (printf "cells.%s: the name of its StatefulSet, %s, has %d characters and may have 52: take a shorter name for the release or for the cell." $cell $name (len $name)) }}
  {{- end }}
{{- end }}
{{- if gt (len .Release.Name) 40 }}
  {{- fail (printf "the release's name %s has %d characters and may have 40, because the names of all Pods begin with it: take a shorter one." .Release.Name (len .Release.Name)) }}
{{- end }}
{{- range $pool, $spec := .Values.workerPools }}
  {{- $cell := $spec.workers.cell | default (include "roadstead.firstCell" $) }}
  {{- if not (hasKey $.Values.cells $cell) }}
    {{- fail (printf "workerPools.%s.workers.cell: there is no cell %s in cells, only %s: name one of them, or add it." $pool $cell (keys $.Values.cells | sortAlpha | join ", ")) }}
  {{- end }}
  {{- $engines := list }}
  {{- range $spec.engines }}
    {{- if has .engine $engines }}
      {{- fail (printf "workerPools.%s.engines: %s is there twice: a pool has one image for an engine." $pool .engine) }}
    {{- end }}
    {{- $engines = append $engines .engine }}
  {{- end }}
{{- end }}
{{- include "roadstead.checkEnv" (list "operator" .Values.operator) }}
{{- include "roadstead.checkEnv" (list "gateway" .Values.gateway) }}
{{- include "roadstead.checkEnv" (list "head" .Values.head) }}
{{- range $cell, $settings := .Values.cells }}
  {{- include "roadstead.checkEnv" (list (print "cells." $cell) $settings) }}
{{- end }}
{{- if and .Values.gateway.ingress.enabled (not .Values.gateway.ingress.host) }}
  {{- fail "gateway.ingress.host is not set: an Ingress needs the host name that clients use. Give it, or leave gateway.ingress.enabled false." }}
{{- end }}
{{- end }}

{{/* Variables that the chart sets itself: of two, one would win by chance. Call with (list "gateway" .Values.gateway). */}}
{{- define "roadstead.checkEnv" -}}
{{- $own := "^(HOME|POD_NAME|POD_UID|ROADSTEAD_(NAMESPACE|LISTEN|INTERNAL_LISTEN|API_LISTEN|LOG_LEVEL|CELL|POD_IP|IDENTITY|INSTALLATION|STATE_DIR|GATEWAY_URL|WATCH_NAMESPACES|DRAIN_SECONDS|[A-Z_]+_FILE))$" -}}
{{- $path := index . 0 -}}
{{- range $index, $variable := (index . 1).extraEnv -}}
  {{- if regexMatch $own $variable.name -}}
    {{- fail (printf "%s.extraEnv.%d.name: %s is set by the chart itself: take it out, and see whether another field says what you want." $path $index $variable.name) -}}
  {{- end -}}
{{- end -}}
{{- end }}
