{{/* Parts of etcd's pods. */}}

{{- define "junction.etcd.claim" -}}
{{- $volume := .Values.etcd.persistence -}}
- metadata:
    name: data
    labels:
      {{- include "junction.selector" (list . "etcd") | nindent 6 }}
    {{- with $volume.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes:
      {{- toYaml $volume.accessModes | nindent 6 }}
    {{- with $volume.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ $volume.size }}
{{- end }}

{{- define "junction.etcd.volumes" -}}
{{- $etcd := .Values.etcd -}}
{{- if not $etcd.persistence.enabled -}}
- name: data
  emptyDir:
    sizeLimit: {{ $etcd.emptyDir.sizeLimit }}
    {{- with $etcd.emptyDir.medium }}
    medium: {{ . }}
    {{- end }}
{{ end -}}
- name: config
  emptyDir: {sizeLimit: 1Mi}
- name: tls
  secret:
    secretName: {{ include "junction.etcd.serverSecret" . }}
    defaultMode: 0440
- name: root
  secret:
    secretName: {{ include "junction.etcd.authSecret" . }}
    defaultMode: 0440
    items:
      - {key: root-password, path: root-password}
- name: auth
  secret:
    secretName: {{ include "junction.etcd.authSecret" . }}
    defaultMode: 0440
{{- with $etcd.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A container of the replica image beside etcd: (list $ "prepare" or "keep") */}}
{{- define "junction.etcd.helper" -}}
{{- $ := index . 0 -}}
{{- $command := index . 1 -}}
{{- $full := include "junction.fullname" $ -}}
image: {{ include "junction.image" (list $ $.Values.replica.image) }}
imagePullPolicy: {{ $.Values.replica.image.pullPolicy }}
command: [junction]
args:
  - etcd
  - {{ $command }}
  - --name=$(POD_NAME)
  - --members={{ $.Values.etcd.replicas }}
  - --service={{ $full }}-etcd
  - --domain={{ include "junction.etcd.domain" $ }}
  - --data-dir=/var/lib/etcd/data
  - --config=/etc/etcd-config/etcd.yaml
  - --tls-dir=/etc/etcd/tls
  - --root-password-file=/etc/junction/auth/root-password
  - --cluster-token={{ $.Release.Namespace }}-{{ $full }}
  - --quota-bytes={{ int64 $.Values.etcd.quota }}
  {{- if eq $command "keep" }}
  - --hub-user=hub
  - --hub-password-file=/etc/junction/auth/hub-password
  - --agent-user=agent
  - --agent-password-file=/etc/junction/auth/agent-password
  - --prefix={{ include "junction.etcd.prefix" $ }}
  - --status=0.0.0.0:2382
  {{- end }}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{ include "junction.containerSecurity" $ }}
resources:
  {{- toYaml $.Values.etcd.keepResources | nindent 2 }}
volumeMounts:
  - {name: data, mountPath: /var/lib/etcd}
  - {name: config, mountPath: /etc/etcd-config}
  - {name: tls, mountPath: /etc/etcd/tls, readOnly: true}
  - {name: {{ eq $command "keep" | ternary "auth" "root" }}, mountPath: /etc/junction/auth, readOnly: true}
{{- end }}
