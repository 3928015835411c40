"""A flag for CHP that is a template, by which helm refuses to take over what cannot be taken over.

z2jh renders its flags; ``lookup`` finds nothing without a cluster (helm template, GitOps), and
then nothing is checked.  What it becomes is a flag that a replica takes and that does nothing.
Invariants:

* What serves users already goes on being upgraded, whatever is amiss.
* All that is refused is refused before helm changes anything, by one line with the mend in it.
"""

from __future__ import annotations

__all__ = ["guard"]


def guard(*, full: str, image: str, proxy: str, public: str) -> str:
    """The template.

    Args:
        full: what the names of Junction's chart begin with.
        image: of the replicas, without its tag.
        proxy, public: z2jh's Deployment and Service.
    """
    words = {"FULL": full, "IMAGE": image, "PROXY": proxy, "PUBLIC": public}
    text = _GUARD
    for word, name in words.items():
        text = text.replace(word, name)
    return text


# 0.0.1 is what z2jh's chart is called in its own checkout
_GUARD = """\
{{- $ns := .Release.Namespace -}}
{{- if and (semverCompare "<4.0.0-0" .Chart.Version) (ne (trunc 5 .Chart.Version) "0.0.1") -}}
{{- fail (printf "Junction needs z2jh 4.0.0 or later, this is %s" .Chart.Version) -}}
{{- end -}}
{{- $image := "" -}}
{{- $users := dict -}}
{{- with lookup "apps/v1" "Deployment" $ns "PROXY" -}}
{{- range .spec.template.spec.containers -}}{{- $image = .image -}}{{- end -}}
{{- $users = dig "spec" "selector" "matchLabels" dict . -}}
{{- end -}}
{{- if and (lookup "v1" "Service" $ns "PUBLIC") (not (hasPrefix "IMAGE:" $image)) -}}
{{- if not (lookup "v1" "Secret" $ns "FULL-etcd-access") -}}
{{- fail (printf "Secret FULL-etcd-access is not in namespace %s: install Junction's chart there, \
or name its release by junction migrate presets --release" $ns) -}}
{{- end -}}
{{- $replicas := lookup "apps/v1" "Deployment" $ns "FULL-replica" | default dict -}}
{{- if lt (int (dig "status" "readyReplicas" 0 $replicas)) 1 -}}
{{- fail "no replica of Deployment FULL-replica is ready, so nobody would serve users: give \
prepare first, and wait for kubectl rollout status deployment/FULL-replica" -}}
{{- end -}}
{{- $labels := dig "spec" "template" "metadata" "labels" dict $replicas -}}
{{- range $key, $value := $users -}}
{{- if ne (get $labels $key) $value -}}
{{- fail (printf "replicas of Deployment FULL-replica get no users, as they lack the label %s=%s: \
set jupyterhub.enabled=true and jupyterhub.releaseName=%s in Junction's chart" \
$key $value $.Release.Name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
--storage-backend=etcd"""
