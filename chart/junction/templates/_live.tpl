{{/*
Changes that the cluster would refuse without a word of what to do, or that etcd would not outlive.
They are seen by what the cluster has already; without one (`helm template`) nothing is refused.
*/}}

{{- define "junction.live" -}}
{{- $etcd := .Values.etcd -}}
{{- $name := printf "%s-etcd" (include "junction.fullname" .) -}}
{{- $live := lookup "apps/v1" "StatefulSet" .Release.Namespace $name -}}
{{- if and $etcd.enabled $live }}
{{- $was := int $live.spec.replicas }}
{{- if gt (sub $was (int $etcd.replicas)) 2 }}
{{- include "junction.refuse" (list "etcd.replicas" (printf "%d takes %d of %d members away at once, and the others with their majority: set it to %d, upgrade, and go on five minutes later" (int $etcd.replicas) (sub $was (int $etcd.replicas)) $was (sub $was 2))) }}
{{- end }}
{{- if ne (include "junction.selector" (list . "etcd") | fromYaml | toJson) ($live.spec.selector.matchLabels | toJson) }}
{{- include "junction.refuse" (list "nameOverride" (printf "%q changes labels that the StatefulSet %s selects its pods by, which never change: leave it as it was, or name another release" .Values.nameOverride $name)) }}
{{- end }}
{{- $claims := $live.spec.volumeClaimTemplates }}
{{- $anew := printf "run `kubectl delete statefulset %s --cascade=orphan --namespace %s` before the upgrade, which then replaces one member after the other" $name .Release.Namespace }}
{{- if ne (not $claims) (not $etcd.persistence.enabled) }}
{{- include "junction.refuse" (list "etcd.persistence.enabled" (printf "is %v, which the StatefulSet %s cannot change: set it to %v, or %s" $etcd.persistence.enabled $name (not $etcd.persistence.enabled) $anew)) }}
{{- else if $claims }}
{{- $had := index $claims 0 }}
{{- $volume := $etcd.persistence }}
{{- if ne (include "junction.bytes" $had.spec.resources.requests.storage) (include "junction.bytes" $volume.size) }}
{{- include "junction.refuse" (list "etcd.persistence.size" (printf "is %s, which the StatefulSet %s cannot change: set it to %s, or %s" $volume.size $name $had.spec.resources.requests.storage $anew)) }}
{{- end }}
{{- $pairs := list
      (list "storageClass" $volume.storageClass ($had.spec.storageClassName | default ""))
      (list "accessModes" $volume.accessModes $had.spec.accessModes)
      (list "annotations" $volume.annotations ($had.metadata.annotations | default dict)) }}
{{- range $pairs }}
{{- if ne (index . 1 | toJson) (index . 2 | toJson) }}
{{- include "junction.refuse" (list (printf "etcd.persistence.%s" (index . 0)) (printf "is %s, which the StatefulSet %s cannot change: set it to %s, or %s" (index . 1 | toJson) $name (index . 2 | toJson) $anew)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A quantity in bytes, as the cluster writes 4096Mi as 4Gi; what is none is given back. */}}
{{- define "junction.bytes" -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15
      "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- if hasKey $units $unit -}}
{{ mulf (trimSuffix $unit .) (get $units $unit) | int64 }}
{{- else -}}
{{ . }}
{{- end }}
{{- end }}
