{{/* Names, labels and images. FULL stands for the name that all others begin with. */}}

{{- define "junction.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* 40 characters: the longest name made of it is a pod's, which is also a host name of 63 at most. */}}
{{- define "junction.fullname" -}}
{{- $name := include "junction.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What a selector may hold: (list $ component). It must never change, a Deployment's selector cannot. */}}
{{- define "junction.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "junction.name" $ }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels of an object: (list $ component). */}}
{{- define "junction.labels" -}}
{{- $ := index . 0 -}}
{{- with $.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "junction.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A pod's labels: not the chart's version, as a new one must not roll what it leaves as it is. (list $ component) */}}
{{- define "junction.podLabels" -}}
{{- omit (include "junction.labels" . | fromYaml) "helm.sh/chart" | toYaml }}
{{- end }}

{{/* An object's metadata: (list $ suffix component [annotations]). The suffix is "" or begins with "-". */}}
{{- define "junction.metadata" -}}
{{- $ := index . 0 -}}
{{- $own := dict -}}
{{- if gt (len .) 3 }}{{ $own = index . 3 | default dict }}{{ end -}}
name: {{ include "junction.fullname" $ }}{{ index . 1 }}
namespace: {{ $.Release.Namespace }}
labels:
  {{- include "junction.labels" (list $ (index . 2)) | nindent 2 }}
{{- with merge (dict) $own $.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* (list $ image) */}}
{{- define "junction.image" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $.Values.global.imageRegistry | default $image.registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "junction.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "junction.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* What z2jh's proxy-public selects, and what its hub and user pods let in. */}}
{{- define "junction.z2jhLabels" -}}
app: jupyterhub
component: proxy
release: {{ .Values.jupyterhub.releaseName | default .Release.Name }}
hub.jupyter.org/network-access-hub: "true"
hub.jupyter.org/network-access-singleuser: "true"
{{- end }}
