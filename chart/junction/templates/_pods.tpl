{{/* What all pods have in common. */}}

{{/* The head of a pod's spec: (list $ component-values). Every pod passes the restricted Pod Security Standard. */}}
{{- define "junction.podHead" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
serviceAccountName: {{ include "junction.serviceAccount" $ }}
automountServiceAccountToken: false
# a variable for every Service of the namespace is of no use here, and slows the start down
enableServiceLinks: false
{{- with $.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- $fixed := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") }}
  {{- merge $fixed $values.podSecurityContext | toYaml | nindent 2 }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* (list $ component component-values) */}}
{{- define "junction.spread" -}}
{{- $ := index . 0 -}}
{{- $component := index . 1 -}}
topologySpreadConstraints:
{{- with (index . 2).topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "junction.selector" (list $ $component) | nindent 8 }}
    {{- if eq $component "replica" }}
    # else the old pods of an upgrade count, and the new ones end up together
    matchLabelKeys: [pod-template-hash]
    {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "junction.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  privileged: false
  capabilities:
    drop: [ALL]
{{- end }}

{{/* A probe: (list path port) */}}
{{- define "junction.httpGet" -}}
httpGet:
  path: {{ index . 0 }}
  port: {{ index . 1 }}
{{- end }}
