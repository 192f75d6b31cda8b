{{- define "falco-correlator.podTemplate" -}}
{{- $name := include "falco-correlator.fullname" . }}
metadata:
  labels:
    {{- include "falco-correlator.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "falco-correlator.restarting" . | sha256sum }}
    {{- if .Values.secretPath.value }}
    checksum/secret-path: {{ .Values.secretPath.value | sha256sum }}
    {{- end }}
    {{- include "falco-correlator.skips" (dict "context" . "kind" "pod") | trim | nindent 4 }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "falco-correlator.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- include "falco-correlator.podSecurityContext" . | nindent 4 }}
  {{- include "falco-correlator.imagePullSecrets" . | nindent 2 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "falco-correlator.tolerations" . | fromYamlArray }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "falco-correlator.initContainers" . | fromYamlArray }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: falco-correlator
      image: {{ include "falco-correlator.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [falco-correlator]
      args: [run, --config, /etc/falco-correlator/config/config.yaml]
      env:
        - {name: FALCO_CORRELATOR_NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- if include "falco-correlator.listens" . }}
        - {name: alerts, containerPort: {{ .Values.http.port }}, protocol: TCP}
        {{- end }}
        - {name: metrics, containerPort: {{ .Values.admin.port }}, protocol: TCP}
      startupProbe:
        httpGet: {path: /healthz, port: metrics}
        {{- toYaml .Values.startupProbe | nindent 8 }}
      livenessProbe:
        httpGet: {path: /healthz, port: metrics}
        {{- toYaml .Values.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        {{- toYaml .Values.readinessProbe | nindent 8 }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/falco-correlator/config, readOnly: true}
        {{- if include "falco-correlator.hasSecretPath" . }}
        - {name: secret-path, mountPath: /etc/falco-correlator/secret, readOnly: true}
        {{- end }}
        {{- if .Values.tls.enabled }}
        - {name: tls, mountPath: /etc/falco-correlator/tls, readOnly: true}
        {{- end }}
        {{- if .Values.falcosidekick.tls.existingSecret }}
        - {name: falcosidekick-tls, mountPath: /etc/falco-correlator/falcosidekick-tls, readOnly: true}
        {{- end }}
        - {name: correlation-rules, mountPath: /etc/falco-correlator/rules, readOnly: true}
        - {name: expectations, mountPath: /etc/falco-correlator/expectations, readOnly: true}
        {{- if eq .Values.mode "grpc" }}
        - {name: falco-socket, mountPath: {{ .Values.grpc.socketDir }}, readOnly: true}
        {{- end }}
        {{- if ne .Values.state.type "memory" }}
        - {name: state, mountPath: /var/lib/falco-correlator}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "falco-correlator.volumes" . | nindent 4 }}
{{- end }}

{{- define "falco-correlator.podSecurityContext" -}}
{{- if eq .Values.mode "grpc" }}
{{- merge (dict "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0) (omit .Values.podSecurityContext "fsGroup" "runAsNonRoot" "runAsUser" "runAsGroup") | toYaml }}
{{- else }}
{{- toYaml .Values.podSecurityContext }}
{{- end }}
{{- end }}

{{/* A lone replica must leave a node that has died; a pod of a DaemonSet belongs to its node whatever happens. */}}
{{- define "falco-correlator.tolerations" -}}
{{- if kindIs "slice" .Values.tolerations }}
{{- toYaml .Values.tolerations }}
{{- else if ne .Values.mode "tap" }}
- operator: Exists
{{- else }}
[]
{{- end }}
{{- end }}

{{- define "falco-correlator.initContainers" -}}
{{- if include "falco-correlator.preparesState" . }}
- name: prepare-state
  image: {{ include "falco-correlator.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python3, -c]
  args:
    - |
      import os
      user = {{ .Values.podSecurityContext.runAsUser }}
      if os.stat("/state").st_uid != user:
          os.chmod("/state", 0o700)
          os.chown("/state", user, user)
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    runAsNonRoot: false
    runAsUser: 0
    runAsGroup: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL], add: [CHOWN]}
  volumeMounts:
    - {name: state, mountPath: /state}
{{- end }}
{{- with .Values.extraInitContainers }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "falco-correlator.volumes" -}}
{{- $name := include "falco-correlator.fullname" . -}}
- name: config
  configMap: {name: {{ $name }}}
{{- if include "falco-correlator.hasSecretPath" . }}
- name: secret-path
  secret: {secretName: {{ include "falco-correlator.secretPathSecret" . }}, defaultMode: 0440}
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "falco-correlator.tlsSecret" . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.falcosidekick.tls.existingSecret }}
- name: falcosidekick-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
- name: correlation-rules
  configMap: {name: {{ $name }}-correlation-rules, optional: true}  # so that the first rule restarts no pod either
- name: expectations
  configMap: {name: {{ $name }}-expectations, optional: true}
{{- if eq .Values.mode "grpc" }}
- name: falco-socket
  hostPath: {path: {{ .Values.grpc.socketDir }}, type: DirectoryOrCreate}
{{- end }}
{{- with .Values.state }}
{{- if eq .type "emptyDir" }}
- name: state
  emptyDir: {sizeLimit: {{ .sizeLimit }}}
{{- else if eq .type "hostPath" }}
- name: state
  hostPath: {path: {{ .hostPath.path }}, type: DirectoryOrCreate}
{{- else if eq .type "persistentVolumeClaim" }}
- name: state
  persistentVolumeClaim: {claimName: {{ default (printf "%s-state" $name) .persistentVolumeClaim.existingClaim }}}
{{- end }}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 16Mi}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Reasons for checks that do not apply; checkov reads these annotations. `kind` is workload, pod or test. */}}
{{- define "falco-correlator.skips" -}}
{{- $v := .context.Values }}
{{- $skips := dict }}
{{- if not $v.networkPolicy.enabled }}
{{- $_ := set $skips "CKV2_K8S_6" "networkPolicy.enabled is for clusters whose CNI enforces it" }}
{{- end }}
{{- if not $v.image.digest }}
{{- $_ := set $skips "CKV_K8S_43" "image.digest is a value, the release notes name it" }}
{{- end }}
{{- if ne $v.image.pullPolicy "Always" }}
{{- $_ := set $skips "CKV_K8S_15" "a node must be able to start the correlator while the registry is unavailable" }}
{{- end }}
{{- if and (eq $v.mode "grpc") (ne .kind "test") }}
{{- range list "CKV_K8S_6" "CKV_K8S_23" "CKV_K8S_29" "CKV_K8S_40" }}
{{- $_ := set $skips . "the socket of Falco 0.43 and older belongs to root, uid 0 without capabilities opens it" }}
{{- end }}
{{- end }}
{{- if and (include "falco-correlator.preparesState" .context) (ne .kind "test") }}
{{- range list "CKV_K8S_25" "CKV_K8S_23" "CKV_K8S_40" }}
{{- $_ := set $skips . "an init container gives the directory on the node to uid 65532, with CHOWN only" }}
{{- end }}
{{- end }}
{{- if eq .kind "test" }}
{{- range list "CKV_K8S_8" "CKV_K8S_9" }}
{{- $_ := set $skips . "a test that ends by itself needs no probes" }}
{{- end }}
{{- $_ := set $skips "CKV2_K8S_6" "the test is over within seconds, and is nobody's server" }}
{{- end }}
{{- range $number, $check := keys $skips | sortAlpha }}
checkov.io/skip{{ add1 $number }}: {{ printf "%s=%s" $check (get $skips $check) | quote }}
{{- end }}
{{- end }}

{{- define "falco-correlator.preparesState" -}}
{{- if and (eq .Values.state.type "hostPath") .Values.state.hostPath.prepare (ne .Values.mode "grpc") }}true{{ end }}
{{- end }}
