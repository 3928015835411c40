{{/*
What the chart makes up at the first install and keeps from then on: passwords and certificates.
Each is made once per rendering (and kept in .Values), as several Secrets hold it.
All give YAML of a Secret's data, base64 and all.
*/}}

{{/* Data of a Secret that the cluster has: (list $ suffix). Empty without a cluster. */}}
{{- define "junction.found" -}}
{{- $ := index . 0 -}}
{{- $secret := lookup "v1" "Secret" $.Release.Namespace (printf "%s%s" (include "junction.fullname" $) (index . 1)) -}}
{{- $secret | default dict | toYaml }}
{{- end }}

{{- define "junction.passwords" -}}
{{- if not (hasKey .Values "_passwords") }}
{{- $old := (include "junction.found" (list . "-etcd-auth") | fromYaml).data | default dict -}}
{{- $data := dict -}}
{{- range list "root-password" "hub-password" "agent-password" -}}
{{- $_ := set $data . (get $old . | default (randAlphaNum 32 | b64enc)) -}}
{{- end -}}
{{- $_ := set .Values "_passwords" (toYaml $data) -}}
{{- end -}}
{{ .Values._passwords }}
{{- end }}

{{/* The names that members are called by. */}}
{{- define "junction.serverNames" -}}
{{- $full := include "junction.fullname" . -}}
{{- $client := printf "%s-etcd-client" $full -}}
- "*.{{ $full }}-etcd.{{ include "junction.etcd.domain" . }}"
- {{ $client }}
- {{ $client }}.{{ .Release.Namespace }}
- {{ $client }}.{{ .Release.Namespace }}.svc
- {{ $client }}.{{ include "junction.etcd.domain" . }}
- localhost
{{- end }}

{{/* The CA, for 100 years: a new one would have to be known to all before it signs anything. No pod mounts its key. */}}
{{- define "junction.ca" -}}
{{- if not (hasKey .Values "_ca") }}
{{- $old := (include "junction.found" (list . "-etcd-ca") | fromYaml).data | default dict -}}
{{- if not (get $old "tls.key") -}}
{{- $ca := genCAWithKey "junction-etcd-ca" 36500 (genPrivateKey "ecdsa") -}}
{{- $old = dict "tls.crt" ($ca.Cert | b64enc) "tls.key" ($ca.Key | b64enc) -}}
{{- end -}}
{{- $_ := set .Values "_ca" (toYaml (pick $old "tls.crt" "tls.key")) -}}
{{- end -}}
{{ .Values._ca }}
{{- end }}

{{/*
A certificate: (list $ "server" or "client" names ips). Kept until its last third, or until CA or names change.
No common name, as etcd would take that for a user.
Gives annotations and data.
*/}}
{{- define "junction.certificate" -}}
{{- $ := index . 0 -}}
{{- $memo := printf "_%s" (index . 1) -}}
{{- if not (hasKey $.Values $memo) }}
{{- $ca := include "junction.ca" $ | fromYaml -}}
{{- $names := index . 2 -}}
{{- $old := include "junction.found" (list $ (printf "-etcd-%s-tls" (index . 1))) | fromYaml -}}
{{- $said := ($old.metadata | default dict).annotations | default dict -}}
{{- $wanted := join " " $names -}}
{{- $made := dict -}}
{{- if and $old (eq (get $said "junction.jupyter.org/names") $wanted)
      (eq (get $old.data "ca.crt") (get $ca "tls.crt"))
      (lt (now | unixEpoch | int64) (get $said "junction.jupyter.org/renew-after" | default "0" | int64)) -}}
{{- $made = dict "data" $old.data "annotations" (pick $said "junction.jupyter.org/names" "junction.jupyter.org/renew-after") -}}
{{- else -}}
{{- $days := int $.Values.certificates.validDays -}}
{{- $signer := buildCustomCert (get $ca "tls.crt") (get $ca "tls.key") -}}
{{- $new := genSignedCertWithKey "" (index . 3) $names $days $signer (genPrivateKey "ecdsa") -}}
{{- $renew := add (now | unixEpoch | int64) (mul $days 57600) -}}
{{- $made = dict "data" (dict "ca.crt" (get $ca "tls.crt") "tls.crt" ($new.Cert | b64enc) "tls.key" ($new.Key | b64enc))
      "annotations" (dict "junction.jupyter.org/names" $wanted "junction.jupyter.org/renew-after" ($renew | toString)) -}}
{{- end -}}
{{- $_ := set $.Values $memo (toYaml $made) -}}
{{- end -}}
{{ get $.Values $memo }}
{{- end }}

{{- define "junction.serverCertificate" -}}
{{- include "junction.certificate" (list . "server" (include "junction.serverNames" . | fromYamlArray) (list "127.0.0.1")) }}
{{- end }}

{{- define "junction.clientCertificate" -}}
{{- include "junction.certificate" (list . "client" (list "junction-etcd-client") list) }}
{{- end }}
