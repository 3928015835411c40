{{/* Rules that several NetworkPolicies share. */}}

{{- define "junction.policy.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
  {{- with .Values.networkPolicy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What a client of etcd may reach. */}}
{{- define "junction.policy.toEtcd" -}}
{{- if .Values.etcd.enabled -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "junction.selector" (list . "etcd") | nindent 10 }}
  ports:
    - {port: 2379, protocol: TCP}
{{- else -}}
- ports:
    {{- $ports := list }}
    {{- range .Values.etcd.external.endpoints }}
    {{- $default := hasPrefix "https:" . | ternary ":443" ":80" }}
    {{- $ports = append $ports (regexFind ":[0-9]+$" . | default $default | trimPrefix ":") }}
    {{- end }}
    {{- range uniq $ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.externalEtcd }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where users' requests go: hub and user pods. */}}
{{- define "junction.policy.targets" -}}
{{- if .Values.networkPolicy.targets -}}
{{ toYaml .Values.networkPolicy.targets }}
{{- else if .Values.jupyterhub.enabled -}}
{{- $release := .Values.jupyterhub.releaseName | default .Release.Name -}}
{{- range $component, $port := dict "hub" 8081 "singleuser-server" 8888 }}
- to:
    - podSelector:
        matchLabels: {app: jupyterhub, component: {{ $component }}, release: {{ $release }}}
  ports:
    - {port: {{ $port }}, protocol: TCP}
{{- end }}
{{- else -}}
- to:
    - podSelector: {}
{{- end }}
{{- end }}

{{/* Ingress from peers that may be everyone: (list peers ports) */}}
{{- define "junction.policy.from" -}}
- ports:
    {{- range index . 1 }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with index . 0 }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
