{{/* What a schema cannot say. Each sentence begins with the field's path and ends with the remedy. */}}

{{- define "roadstead.checks" -}}
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
{{- if and .Values.gateway.ingress.enabled (not .Values.gateway.ingress.host) }}
  {{- fail "gateway.ingress.host is not set: an Ingress needs the host name that clients use. Give it, or leave gateway.ingress.enabled false." }}
{{- end }}
{{- end }}
