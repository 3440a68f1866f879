{{/* Images: registry, repository, and the digest or else the tag. */}}

{{/* call with (list $ "registry/less/repository") */}}
{{- define "roadstead.repository" -}}
{{- with (index . 0).Values.image.registry }}{{ . }}/{{ end }}{{ index . 1 }}
{{- end }}

{{/* An image that may be named by tag: call with (list $ .Values.image.postgres). */}}
{{- define "roadstead.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- include "roadstead.repository" (list $root $image.repository) -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The worker image, by digest or not at all. */}}
{{- define "roadstead.workerImage" -}}
{{- $digest := required "image.worker.digest is not set: the worker image is named by its digest alone, because it is part of what names a release. Give it with --set image.worker.digest=sha256:… (your registry tells it, for instance `skopeo inspect --format '{{.Digest}}' docker://REPOSITORY:TAG`)." .Values.image.worker.digest -}}
{{- include "roadstead.repository" (list . .Values.image.worker.repository) }}@{{ $digest }}
{{- end }}
