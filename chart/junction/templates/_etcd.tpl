{{/* Where etcd is, and how to get in. */}}

{{- define "junction.etcd.domain" -}}
{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* Each member's URL, as a client that knows them all needs no load balancer, and outlives any of them. */}}
{{- define "junction.etcd.urls" -}}
{{- if .Values.etcd.enabled -}}
{{- $full := include "junction.fullname" . -}}
{{- $urls := list -}}
{{- range $i := until (int .Values.etcd.replicas) -}}
{{- $urls = append $urls (printf "https://%s-etcd-%d.%s-etcd.%s:2379" $full $i $full (include "junction.etcd.domain" $)) -}}
{{- end -}}
{{ join "," $urls }}
{{- else -}}
{{ join "," .Values.etcd.external.endpoints }}
{{- end }}
{{- end }}

{{/* Where each member's keeper says how it is. */}}
{{- define "junction.etcd.keepers" -}}
{{- $full := include "junction.fullname" . -}}
{{- $keepers := list -}}
{{- range $i := until (int .Values.etcd.replicas) -}}
{{- $keepers = append $keepers (printf "%s-etcd-%d.%s-etcd.%s:2382" $full $i $full (include "junction.etcd.domain" $)) -}}
{{- end -}}
{{ join "," $keepers }}
{{- end }}

{{- define "junction.etcd.prefix" -}}
{{- if .Values.etcd.enabled }}/junction/{{ else }}{{ .Values.etcd.external.prefix }}{{ end }}
{{- end }}

{{/* A user's name: (list $ "hub" or "agent") */}}
{{- define "junction.etcd.username" -}}
{{- $ := index . 0 -}}
{{- if $.Values.etcd.enabled }}{{ index . 1 }}{{ else }}{{ get $.Values.etcd.external (printf "%sUsername" (index . 1)) }}{{ end }}
{{- end }}

{{/* The Secrets' names; empty where an external etcd has no such thing. */}}
{{- define "junction.etcd.authSecret" -}}
{{- if not .Values.etcd.enabled }}{{ .Values.etcd.external.authSecret }}
{{- else }}{{ .Values.auth.existingSecret | default (printf "%s-etcd-auth" (include "junction.fullname" .)) }}{{ end }}
{{- end }}

{{- define "junction.etcd.serverSecret" -}}
{{- if eq .Values.certificates.source "existing" }}{{ .Values.certificates.existing.serverSecret }}
{{- else }}{{ include "junction.fullname" . }}-etcd-server-tls{{ end }}
{{- end }}

{{- define "junction.etcd.clientSecret" -}}
{{- if not .Values.etcd.enabled }}{{ .Values.etcd.external.tlsSecret }}
{{- else if eq .Values.certificates.source "existing" }}{{ .Values.certificates.existing.clientSecret }}
{{- else }}{{ include "junction.fullname" . }}-etcd-client-tls{{ end }}
{{- end }}

{{- define "junction.etcd.hasClientCertificate" -}}
{{- if or .Values.etcd.enabled (and .Values.etcd.external.tlsSecret .Values.etcd.external.clientCertificate) }}yes{{ end }}
{{- end }}

{{/* A client's arguments: (list $ "hub" or "agent") */}}
{{- define "junction.etcd.clientArgs" -}}
{{- $ := index . 0 -}}
- --etcd={{ include "junction.etcd.urls" $ }}
- --etcd-prefix={{ include "junction.etcd.prefix" $ }}
{{- if include "junction.etcd.authSecret" $ }}
- --etcd-username={{ include "junction.etcd.username" . }}
- --etcd-password-file=/etc/junction/auth/{{ index . 1 }}-password
{{- end }}
{{- if include "junction.etcd.clientSecret" $ }}
- --etcd-ca=/etc/junction/etcd/ca.crt
{{- end }}
{{- if include "junction.etcd.hasClientCertificate" $ }}
- --etcd-cert=/etc/junction/etcd/tls.crt
- --etcd-key=/etc/junction/etcd/tls.key
{{- end }}
{{- end }}

{{- define "junction.etcd.clientMounts" -}}
{{- if include "junction.etcd.authSecret" . }}
- {name: etcd-auth, mountPath: /etc/junction/auth, readOnly: true}
{{- end }}
{{- if include "junction.etcd.clientSecret" . }}
- {name: etcd-tls, mountPath: /etc/junction/etcd, readOnly: true}
{{- end }}
{{- end }}

{{/* A client's volumes, with its own password and no other: (list $ "hub" or "agent") */}}
{{- define "junction.etcd.clientVolumes" -}}
{{- $ := index . 0 -}}
{{- $file := printf "%s-password" (index . 1) -}}
{{- with include "junction.etcd.authSecret" $ }}
- name: etcd-auth
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: {{ $file }}, path: {{ $file }}}
{{- end }}
{{- with include "junction.etcd.clientSecret" $ }}
- name: etcd-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
