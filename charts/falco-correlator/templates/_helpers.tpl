{{- define "falco-correlator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "falco-correlator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "falco-correlator.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "falco-correlator.falcoNamespace" -}}
{{- default (include "falco-correlator.namespace" .) .Values.falco.namespace }}
{{- end }}

{{- define "falco-correlator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "falco-correlator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "falco-correlator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "falco-correlator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: falco
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "falco-correlator.image" -}}
{{- with .Values.image }}
{{- $name := printf "%s/%s" (default .registry ($.Values.global).imageRegistry) .repository | trimPrefix "/" }}
{{- if .digest }}{{ printf "%s@%s" $name .digest }}{{ else }}{{ printf "%s:%s" $name (default $.Chart.AppVersion .tag) }}{{ end }}
{{- end }}
{{- end }}

{{- define "falco-correlator.imagePullSecrets" -}}
{{- with concat .Values.imagePullSecrets (default list (.Values.global).imagePullSecrets) }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "falco-correlator.serviceAccountName" -}}
{{- default (ternary (include "falco-correlator.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{/* Whether alerts come to us over HTTP through a Service: modes http and tap. */}}
{{- define "falco-correlator.listens" -}}
{{- if has .Values.mode (list "http" "tap") }}true{{ end }}
{{- end }}

{{/* Whether there is a secret path: not if a certificate identifies the sender, or if anyone may send. */}}
{{- define "falco-correlator.hasSecretPath" -}}
{{- $given := or .Values.secretPath.value .Values.secretPath.existingSecret }}
{{- if and (include "falco-correlator.listens" .) (or $given (not (or .Values.tls.enabled .Values.insecure))) }}true{{ end }}
{{- end }}

{{- define "falco-correlator.secretPathSecret" -}}
{{- default (printf "%s-secret-path" (include "falco-correlator.fullname" .)) .Values.secretPath.existingSecret }}
{{- end }}

{{- define "falco-correlator.tlsSecret" -}}
{{- default (printf "%s-tls" (include "falco-correlator.fullname" .)) .Values.tls.existingSecret }}
{{- end }}

{{- define "falco-correlator.clientSecret" -}}
{{- if .Values.tls.certManager.enabled }}{{ include "falco-correlator.fullname" . }}-falco-client{{ else }}{{ .Values.tls.clientSecret }}{{ end }}
{{- end }}

{{/* Where Falco (or Falcosidekick) reaches the Service, without the path. */}}
{{- define "falco-correlator.address" -}}
{{ ternary "https" "http" .Values.tls.enabled }}://{{ include "falco-correlator.fullname" . }}.{{ include "falco-correlator.namespace" . }}.svc:{{ .Values.http.port }}
{{- end }}

{{/* A file of the chart. A missing one must not become an empty ConfigMap. */}}
{{/* The chains of attacks that ship, each with the file of its Falco rules. */}}
{{- define "falco-correlator.chains" -}}
web-application-rce: web_rce_rules.yaml
crypto-mining: crypto_mining_rules.yaml
{{- end }}

{{/* The files of Falco rules that are in use, as a YAML mapping of short names. */}}
{{- define "falco-correlator.ruleFiles" -}}
canary: canary_rules.yaml
{{- $files := include "falco-correlator.chains" . | fromYaml }}
{{- range .Values.correlationRules.chains }}
{{ trimSuffix "_rules.yaml" (get $files .) | replace "_" "-" }}: {{ get $files . }}
{{- end }}
{{- end }}

{{- define "falco-correlator.ruleFile" -}}
{{- $text := .context.Files.Get (printf "falco_rules/%s" .name) }}
{{- if not (contains "- rule:" $text) }}
{{- fail (printf "falco_rules/%s is missing from the chart, or has no rules: package the chart from a complete check-out of the repository" .name) }}
{{- end }}
{{- $text }}
{{- end }}

{{/* The settings file of the service: what the values say, and then `config`. */}}
{{- define "falco-correlator.settings" -}}
{{- $settings := include "falco-correlator.ownSettings" . | fromYaml }}
{{- mustMergeOverwrite $settings (deepCopy .Values.config) | toYaml }}
{{- end }}

{{/* The settings whose change needs a restart: a running service takes up the others, and changed rules, by itself. */}}
{{- define "falco-correlator.restarting" -}}
{{- $settings := omit (include "falco-correlator.settings" . | fromYaml) "cluster" "url" "rules" "expectations" "coalesce" "log_level" "programs" }}
{{- with $settings.admin }}{{ $_ := set $settings "admin" (omit . "pages" "allowed_hosts" "links") }}{{ end }}
{{- with $settings.redaction }}{{ $_ := set $settings "redaction" (omit . "patterns") }}{{ end }}
{{- if not $settings.redaction }}{{ $_ := unset $settings "redaction" }}{{ end }}
{{- toYaml $settings }}
{{- end }}

{{- define "falco-correlator.ownSettings" -}}
http:
  {{- if eq .Values.mode "sidecar" }}
  host: 127.0.0.1
  port: {{ .Values.http.port }}
  {{- else if include "falco-correlator.listens" . }}
  host: {{ .Values.http.host | quote }}
  port: {{ .Values.http.port }}
  {{- if include "falco-correlator.hasSecretPath" . }}
  secret_path_file: /etc/falco-correlator/secret/{{ .Values.secretPath.key }}
  {{- end }}
  {{- if .Values.tls.enabled }}
  tls:
    cert: /etc/falco-correlator/tls/tls.crt
    key: /etc/falco-correlator/tls/tls.key
    client_ca: /etc/falco-correlator/tls/ca.crt
    allowed_names: {{ .Values.tls.allowedNames | toJson }}
  {{- end }}
  {{- if .Values.insecure }}
  insecure: true
  {{- end }}
  {{- else }}
  enabled: false
  {{- end }}
{{- if eq .Values.mode "grpc" }}
grpc:
  enabled: true
  address: unix://{{ .Values.grpc.socketDir }}/{{ .Values.grpc.socketName }}
{{- end }}
{{- if has .Values.mode (list "http" "sidecar") }}
pass_through:
  mode: {{ .Values.passThrough }}
  match: {{ .Values.passThroughMatch }}
{{- else }}
pass_through:
  mode: none
{{- end }}
{{- with .Values.falcosidekick.url }}
sinks:
  falcosidekick:
    url: {{ . | quote }}
    {{- with $.Values.falcosidekick.tls }}
    {{- if .existingSecret }}
    tls:
      ca: /etc/falco-correlator/falcosidekick-tls/ca.crt
      {{- if .clientCertificate }}
      cert: /etc/falco-correlator/falcosidekick-tls/tls.crt
      key: /etc/falco-correlator/falcosidekick-tls/tls.key
      {{- end }}
    {{- end }}
    {{- end }}
{{- end }}
admin:
  host: {{ ternary "::" "0.0.0.0" (eq .Values.http.host "::") | quote }}
  port: {{ .Values.admin.port }}
{{- if ne .Values.state.type "memory" }}
state:
  path: /var/lib/falco-correlator/state.db
{{- end }}
{{- if and .Values.canary.enabled (ne .Values.mode "tap") }}
canary:
  enabled: true
  interval: {{ .Values.canary.interval }}
{{- end }}
{{- with .Values.correlationRules }}
{{- $all := keys (include "falco-correlator.chains" $ | fromYaml) }}
{{- $rules := list "shipped" }}
{{- if lt (len (uniq .chains)) (len $all) }}
{{- $rules = list }}
{{- range uniq .chains }}{{ $rules = append $rules (printf "shipped/%s" .) }}{{ end }}
{{- end }}
{{- if or .files (ne (toJson $rules) (toJson (list "shipped"))) }}
rules: {{ concat (ternary $rules (list) .shipped) (ternary (list "/etc/falco-correlator/rules") (list) (gt (len .files) 0)) | toJson }}
{{- end }}
{{- end }}
{{- with .Values.expectations }}
{{- if or .files (not .shipped) }}
expectations: {{ concat (ternary (list "shipped") (list) .shipped) (ternary (list "/etc/falco-correlator/expectations") (ternary (list) (list "none") .shipped) (gt (len .files) 0)) | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{/* Falco's settings that depend on names and secrets of this release: a file for its config.d. */}}
{{- define "falco-correlator.falcoConfig" -}}
http_output:
  enabled: true
  keep_alive: true
  {{- if eq .Values.mode "sidecar" }}
  url: http://127.0.0.1:{{ .Values.http.port }}/
  {{- else }}
  url: {{ include "falco-correlator.address" . }}{{ if include "falco-correlator.hasSecretPath" . }}${FALCO_CORRELATOR_PATH}{{ else }}/{{ end }}
  {{- if .Values.tls.enabled }}
  mtls: true
  ca_cert: /etc/falco-correlator/tls/ca.crt
  client_cert: /etc/falco-correlator/tls/tls.crt
  client_key: /etc/falco-correlator/tls/tls.key
  {{- end }}
  {{- end }}
{{- end }}

{{/* Labels of the check: not those of the selector, or the Service would send it alerts. */}}
{{- define "falco-correlator.checkLabels" -}}
app.kubernetes.io/name: {{ include "falco-correlator.name" . }}-check
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: falco-correlator-check
{{- end }}

{{/* A file of overlays/, in which the names of a release named falco-correlator are replaced by those of this one. */}}
{{- define "falco-correlator.overlay" -}}
{{- $name := include "falco-correlator.fullname" .context }}
{{- $secret := include "falco-correlator.hasSecretPath" .context }}
{{- $path := ternary "$(FALCO_CORRELATOR_PATH)" "/" (eq $secret "true") }}
{{- .context.Files.Get (printf "overlays/%s.yaml" .name) | required (printf "overlays/%s.yaml is missing from the chart" .name)
    | replace "{name: falco-correlator-rules}" (printf "{name: %s-rules}" $name)
    | replace "{name: falco-correlator-falco-config}" (printf "{name: %s-falco-config}" $name)
    | replace "configMap: {name: falco-correlator}" (printf "configMap: {name: %s}" $name)
    | replace "{name: falco-correlator-secret-path, key: secret-path" (printf "{name: %s, key: %s" (include "falco-correlator.secretPathSecret" .context) .context.Values.secretPath.key)
    | replace "secretName: falco-correlator-falco-client" (printf "secretName: %s" (default "none" (include "falco-correlator.clientSecret" .context)))
    | replace "http://falco-correlator.falco.svc:2802$(FALCO_CORRELATOR_PATH)" (printf "%s%s" (include "falco-correlator.address" .context) $path)
    | replace "http://falco-correlator.falco.svc:2802" (include "falco-correlator.address" .context)
    | trim }}
{{- end }}
