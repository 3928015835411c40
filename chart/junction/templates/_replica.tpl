{{/* The replica's pods: labels, annotations, arguments. */}}

{{- define "junction.replica.labels" -}}
{{- $labels := include "junction.podLabels" (list . "replica") | fromYaml -}}
{{- $_ := set $labels "junction.jupyter.org/etcd-client" "true" -}}
{{- if .Values.jupyterhub.enabled -}}
{{- $labels = merge $labels (include "junction.z2jhLabels" . | fromYaml) -}}
{{- end -}}
{{- toYaml (merge $labels .Values.replica.podLabels) }}
{{- end }}

{{- define "junction.replica.args" -}}
{{- $replica := .Values.replica -}}
- replica
{{- if $replica.tls.secretName }}
- --listen=0.0.0.0:8443
- --ssl-cert=/etc/junction/tls/tls.crt
- --ssl-key=/etc/junction/tls/tls.key
- --redirect=0.0.0.0:8000
- --redirect-to={{ .Values.service.ports.https }}
{{- else }}
- --listen=0.0.0.0:8000
{{- end }}
- --status=0.0.0.0:8081
- --runtime-dir=/run/junction/replica
- --accept-grace={{ $replica.acceptGrace }}
- --grace={{ $replica.grace }}
- --max-stale={{ $replica.maxStale }}
- --pace-covered={{ $replica.pacing.covered }}
- --pace-uncovered={{ $replica.pacing.uncovered }}
- --log-level={{ $replica.logLevel }}
{{- range $replica.trust }}
- --trust={{ . }}
{{- end }}
{{ include "junction.etcd.clientArgs" (list . "agent") }}
{{- range $replica.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* Ports for users, by name: with TLS, plain HTTP is led to HTTPS. */}}
{{- define "junction.replica.ports" -}}
http: 8000
{{- if .Values.replica.tls.secretName }}
https: 8443
{{- end }}
{{- end }}

{{/* Where each replica is fetched from by itself. */}}
{{- define "junction.replica.address" -}}
{{- $host := printf "%s-replicas.%s" (include "junction.fullname" .) (include "junction.etcd.domain" .) -}}
{{- if .Values.replica.tls.secretName }}https://{{ $host }}:8443{{ else }}{{ $host }}:8000{{ end }}
{{- end }}
