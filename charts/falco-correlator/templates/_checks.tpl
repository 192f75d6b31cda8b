{{/* Values that contradict each other. Each message says what to set. */}}
{{- define "falco-correlator.check" -}}
{{- $v := .Values }}
{{- $listens := include "falco-correlator.listens" . }}
{{- if and $v.insecure (not $v.networkPolicy.enabled) }}
{{- fail "insecure: true accepts alerts from anyone who can reach the port: set networkPolicy.enabled: true too, or insecure: false" }}
{{- end }}
{{- if and $v.insecure (or $v.tls.enabled $v.secretPath.value $v.secretPath.existingSecret) }}
{{- fail "insecure: true together with tls or secretPath: choose one; insecure: false keeps unauthenticated senders out" }}
{{- end }}
{{- if and (or $v.insecure $v.tls.enabled $v.secretPath.value $v.secretPath.existingSecret) (not $listens) }}
{{- fail (printf "mode: %s has no port that others can reach: do not set insecure, tls.enabled, secretPath.value or secretPath.existingSecret, they are for modes http and tap" $v.mode) }}
{{- end }}
{{- if and $v.secretPath.value $v.secretPath.existingSecret }}
{{- fail "secretPath.value and secretPath.existingSecret: set only one of them" }}
{{- end }}
{{- if and $v.tls.enabled (not $v.tls.existingSecret) (not $v.tls.certManager.enabled) }}
{{- fail "tls.enabled: true needs certificates: set tls.certManager.enabled: true, or tls.existingSecret to a Secret with tls.crt, tls.key and ca.crt" }}
{{- end }}
{{- if and $v.tls.existingSecret $v.tls.certManager.enabled }}
{{- fail "tls.existingSecret and tls.certManager.enabled: set only one of them" }}
{{- end }}
{{- if and (or $v.tls.existingSecret $v.tls.certManager.enabled) (not $v.tls.enabled) }}
{{- fail "tls.existingSecret and tls.certManager.enabled do nothing without tls.enabled: true: set it, or remove them" }}
{{- end }}
{{- if and (eq $v.mode "tap") (ne (int $v.replicaCount) 1) }}
{{- fail (printf "replicaCount: %v in mode tap: the correlator keeps its memory in one process, and two would each see half of an attack: set replicaCount: 1" $v.replicaCount) }}
{{- end }}
{{- if and (ne $v.mode "tap") (ne (int $v.replicaCount) 1) }}
{{- fail (printf "replicaCount: %v in mode %s: there is one correlator on each node: leave replicaCount at 1, and choose nodes with nodeSelector" $v.replicaCount $v.mode) }}
{{- end }}
{{- if and (eq $v.mode "tap") (eq $v.state.type "hostPath") }}
{{- fail "state.type: hostPath in mode tap: the replica may move to another node: set state.type: persistentVolumeClaim or emptyDir" }}
{{- end }}
{{- if and (ne $v.mode "tap") (eq $v.state.type "persistentVolumeClaim") }}
{{- fail (printf "state.type: persistentVolumeClaim in mode %s: there is one correlator on each node: set state.type: hostPath or emptyDir" $v.mode) }}
{{- end }}
{{- if and (eq $v.mode "sidecar") (eq $v.state.type "hostPath") }}
{{- fail "state.type: hostPath in mode sidecar: overlays/falco-sidecar.yaml defines the volume: set state.type: emptyDir or memory" }}
{{- end }}
{{- if and (include "falco-correlator.preparesState" .) (not $v.podSecurityContext.runAsUser) }}
{{- fail "state.type: hostPath with podSecurityContext.runAsUser: null: the directory must belong to a fixed user: leave runAsUser at 65532 and set scc.create: true, or prepare the directory yourself and set state.hostPath.prepare: false" }}
{{- end }}
{{- if and $v.falcosidekick.tls.existingSecret (not (hasPrefix "https://" $v.falcosidekick.url)) }}
{{- fail (printf "falcosidekick.tls.existingSecret does nothing with falcosidekick.url: %q: it has to begin with https://" $v.falcosidekick.url) }}
{{- end }}
{{- if and $v.falcosidekick.tls.existingSecret (eq $v.mode "sidecar") }}
{{- fail "falcosidekick.tls.existingSecret in mode sidecar: overlays/falco-sidecar.yaml mounts no such Secret: use mode http" }}
{{- end }}
{{- if and $v.falcosidekick.tls.clientCertificate (not $v.falcosidekick.tls.existingSecret) }}
{{- fail "falcosidekick.tls.clientCertificate: true needs falcosidekick.tls.existingSecret" }}
{{- end }}
{{- if eq (int $v.http.port) (int $v.admin.port) }}
{{- fail (printf "http.port and admin.port are both %v: alerts and probes need separate ports" $v.http.port) }}
{{- end }}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled }}
{{- fail "podMonitor.enabled and serviceMonitor.enabled: set only one of them, or everything is scraped twice" }}
{{- end }}
{{- if and (eq $v.mode "sidecar") (or $v.serviceMonitor.enabled $v.networkPolicy.enabled $v.scc.create) }}
{{- fail "mode: sidecar creates no Service and no pod: set podMonitor.enabled instead of serviceMonitor.enabled, and leave networkPolicy.enabled and scc.create false" }}
{{- end }}
{{- if not (or $v.falcosidekick.url (dig "sinks" "stdout" "enabled" false $v.config) (dig "sinks" "file" "path" "" $v.config) (dig "sinks" "webhook" "url" "" $v.config)) }}
{{- fail "falcosidekick.url is empty and config.sinks names no other sink, incidents would go nowhere: set falcosidekick.url, or config.sinks.stdout.enabled: true" }}
{{- end }}
{{- if not (or $v.correlationRules.shipped $v.correlationRules.files) }}
{{- fail "correlationRules.shipped: false without correlationRules.files: nothing would be correlated" }}
{{- end }}
{{- if and (eq $v.mode "sidecar") $v.correlationRules.files }}
{{- fail "correlationRules.files in mode sidecar: overlays/falco-sidecar.yaml mounts no rules: use mode http" }}
{{- end }}
{{- if and (eq $v.mode "sidecar") $v.expectations.files }}
{{- fail "expectations.files in mode sidecar: overlays/falco-sidecar.yaml mounts none: use mode http" }}
{{- end }}
{{- end }}
