{{/* Combinations of values that cannot work. What one value alone may be is said by values.schema.json. */}}

{{- define "junction.checks" -}}
{{- $etcd := .Values.etcd -}}
{{- $external := $etcd.external -}}
{{- $certificates := .Values.certificates -}}
{{- $replica := .Values.replica -}}
{{- $scaling := $replica.autoscaling -}}

{{- range $key, $_ := .Values.commonLabels }}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart") }}
{{- include "junction.refuse" (list (printf "commonLabels.%s" $key) "is a label that the chart gives itself: leave it out") }}
{{- end }}
{{- end }}
{{- if and $etcd.enabled $external.endpoints }}
{{- include "junction.refuse" (list "etcd.external.endpoints" "there are two etcds then: set etcd.enabled to false to use that one, or give no endpoints") }}
{{- end }}
{{- if and (not $etcd.enabled) (not $external.endpoints) }}
{{- include "junction.refuse" (list "etcd.external.endpoints" "is empty and etcd.enabled is false: name the URLs of your etcd, or set etcd.enabled to true") }}
{{- end }}
{{- if and (not $etcd.enabled) .Values.auth.existingSecret }}
{{- include "junction.refuse" (list "auth.existingSecret" "is for the chart's own etcd: name the Secret in etcd.external.authSecret") }}
{{- end }}
{{- if and (not $etcd.enabled) (ne $certificates.source "chart") }}
{{- include "junction.refuse" (list "certificates.source" "is for the chart's own etcd: leave it out, and name the Secret in etcd.external.tlsSecret") }}
{{- end }}
{{- range $key, $value := pick $external "authSecret" "tlsSecret" }}
{{- if and $etcd.enabled $value }}
{{- include "junction.refuse" (list (printf "etcd.external.%s" $key) "is given and etcd.enabled is true: set that to false, or leave this out") }}
{{- end }}
{{- end }}
{{- range $external.endpoints }}
{{- if and (hasPrefix "http:" .) $external.tlsSecret }}
{{- include "junction.refuse" (list "etcd.external.tlsSecret" (printf "is given, but %s is not https: write https, or leave the Secret out" .)) }}
{{- end }}
{{- end }}

{{- $existing := $certificates.existing -}}
{{- if eq $certificates.source "existing" }}
{{- range list "serverSecret" "clientSecret" }}
{{- if not (get $existing .) }}
{{- include "junction.refuse" (list (printf "certificates.existing.%s" .) "is empty and certificates.source is existing: name the Secret, or let the chart or cert-manager make it") }}
{{- end }}
{{- end }}
{{- else if or $existing.serverSecret $existing.clientSecret }}
{{- include "junction.refuse" (list "certificates.source" (printf "is %s, but certificates.existing names a Secret: set it to existing, or leave the Secret out" $certificates.source)) }}
{{- end }}
{{- $manager := $certificates.certManager -}}
{{- if eq $certificates.source "cert-manager" }}
{{- if not (or $manager.createIssuer $manager.issuerRef.name) }}
{{- include "junction.refuse" (list "certificates.certManager.issuerRef.name" "is empty and createIssuer is false: name an issuer, or set createIssuer to true") }}
{{- end }}
{{- end }}
{{- if and $manager.createIssuer $manager.issuerRef.name }}
{{- include "junction.refuse" (list "certificates.certManager.createIssuer" "is true and issuerRef names another issuer: set it to false, or leave issuerRef out") }}
{{- end }}

{{- if and $etcd.enabled (eq 0 (mod (int $etcd.replicas) 2)) }}
{{- include "junction.refuse" (list "etcd.replicas" (printf "%d is even, which outlives no more failures than %d: set it to an odd number" (int $etcd.replicas) (sub (int $etcd.replicas) 1))) }}
{{- end }}
{{- if and $etcd.enabled (not $etcd.persistence.enabled) (eq (int $etcd.replicas) 1) }}
{{- include "junction.refuse" (list "etcd.persistence.enabled" "is false with one member, which would lose everything at each restart: set it to true, or etcd.replicas to 3") }}
{{- end }}
{{- if $scaling.enabled }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
{{- include "junction.refuse" (list "replica.autoscaling.maxReplicas" (printf "%d is less than minReplicas %d: raise it" (int $scaling.maxReplicas) (int $scaling.minReplicas))) }}
{{- end }}
{{- if not (or $scaling.metrics (dig "requests" "cpu" "" $replica.resources)) }}
{{- include "junction.refuse" (list "replica.resources.requests.cpu" "is empty, and the autoscaler aims at a share of it: set it, or replica.autoscaling.metrics") }}
{{- end }}
{{- end }}
{{- if and .Values.jupyterhub.releaseName (not .Values.jupyterhub.enabled) }}
{{- include "junction.refuse" (list "jupyterhub.releaseName" "is given and jupyterhub.enabled is false: set that to true, or leave this out") }}
{{- end }}
{{- if and (eq .Values.service.type "ClusterIP") (or .Values.service.nodePorts.http .Values.service.nodePorts.https) }}
{{- include "junction.refuse" (list "service.nodePorts" "are given and service.type is ClusterIP: set that to NodePort or LoadBalancer, or leave these out") }}
{{- end }}
{{- if and (eq .Values.service.type "ClusterIP") .Values.service.externalTrafficPolicy }}
{{- include "junction.refuse" (list "service.externalTrafficPolicy" "is given and service.type is ClusterIP: set that to NodePort or LoadBalancer, or leave this out") }}
{{- end }}
{{- end }}

{{/* (list key what-to-do) */}}
{{- define "junction.refuse" -}}
{{- fail (printf "junction: %s %s" (index . 0) (index . 1)) }}
{{- end }}
