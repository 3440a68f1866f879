{{/* Edges of the fleet's network; each is a list of rules, to be put under ingress or egress. */}}

{{/* Pods of components, as peers: call with (list $ "operator" "uninstall"). */}}
{{- define "roadstead.peers" -}}
{{- $root := index . 0 -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: roadstead
      app.kubernetes.io/instance: {{ $root.Release.Name }}
    matchExpressions:
      - key: app.kubernetes.io/component
        operator: In
        values: [{{ slice . 1 | join ", " }}]
{{- end }}

{{/* Ports of TCP: call with a list. */}}
{{- define "roadstead.tcp" -}}
{{- range . }}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end }}

{{/* Blocks of addresses as peers: call with (list $cidrs $except). What is excepted belongs to the block of its family. */}}
{{- define "roadstead.blocks" -}}
{{- $except := index . 1 -}}
{{- range index . 0 }}
{{- $six := contains ":" . }}
- ipBlock:
    cidr: {{ . }}
    {{- $inside := list }}
    {{- if hasSuffix "/0" . }}
      {{- range $except }}
        {{- if eq $six (contains ":" .) }}{{ $inside = append $inside . }}{{ end }}
      {{- end }}
    {{- end }}
    {{- with $inside }}
    except: {{ toJson . }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "roadstead.egress.dns" -}}
- ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{- define "roadstead.egress.apiServer" -}}
- ports:
    {{- include "roadstead.tcp" .Values.networkPolicy.apiServer.ports | nindent 4 }}
  {{- with .Values.networkPolicy.apiServer.cidrs }}
  to:
    {{- include "roadstead.blocks" (list . list) | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The beginning of a component's policy: call with (list $ "gateway"). */}}
{{- define "roadstead.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "roadstead.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "roadstead.selector" . | nindent 6 }}
{{- end }}
