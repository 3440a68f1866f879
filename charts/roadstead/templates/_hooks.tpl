{{/* Annotations of what a hook's Job needs and of the Job itself: call with (list "pre-delete" "-10"). */}}
{{- define "roadstead.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
