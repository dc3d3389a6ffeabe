{{- /* At most 40 characters, so that what is added fits a label; of a longer name the rest is a hash. A Service's has no dots. */}}
{{- define "fate.name" -}}
{{- $full := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-fate" .Release.Name) -}}
{{- $name := regexMatch "^[a-z]" $full | ternary $full (printf "fate-%s" $full) | replace "." "-" -}}
{{- if or (gt (len $name) 40) (contains "." $full) }}{{ printf "%s-%s" (trunc 31 $name | trimSuffix "-") (sha256sum $full | trunc 8) }}{{ else }}{{ $name }}{{ end -}}
{{- end }}

{{- define "fate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "fate.labels" -}}
{{ include "fate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "fate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "fate.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "fate.secretName" -}}
{{ .Values.signingKey.existingSecret | default (printf "%s-gateways" (include "fate.name" .)) }}
{{- end }}

{{- /* The label of pods that may reach gateways; its value is the release. */}}
{{- define "fate.client" -}}
fate-gateway-client: {{ .Release.Name | quote }}
{{- end }}

{{- /* All engine pods, the workers of groups too. */}}
{{- define "fate.engineSelector" -}}
app.kubernetes.io/instance={{ .Release.Name }},fate-pool
{{- end }}

{{- define "fate.officialNamespace" -}}
{{ .Values.officialAirflow.namespace | default .Release.Namespace }}
{{- end }}

{{- /* A kept secret's value: that of the cluster, or a new one. Arguments: root, Secret, key, new value. */}}
{{- define "fate.kept" -}}
{{- $found := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- $old := "" }}{{ if $found }}{{ $old = index ($found.data | default dict) (index . 2) | default "" }}{{ end -}}
{{- if $old }}{{ $old }}{{ else }}{{ index . 3 | b64enc }}{{ end -}}
{{- end }}

{{- /* A pool with its defaults, as JSON. Arguments: root, the pool's own values. */}}
{{- define "fate.pool" -}}
{{- mergeOverwrite (deepCopy (index . 0).Values.poolDefaults) (deepCopy (index . 1)) | toJson -}}
{{- end }}

{{- /* A security context of the values, or nothing where it is null. Arguments: its key, the values. */}}
{{- define "fate.securityContext" -}}
{{- $set := dict }}
{{- range $key, $value := index . 1 }}
  {{- if not (kindIs "invalid" $value) }}{{ $_ := set $set $key $value }}{{ end }}
{{- end }}
{{- with $set }}
{{ index $ 0 }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Labels or annotations of the values, over each other. */}}
{{- define "fate.also" -}}
{{- $all := dict }}
{{- range . }}{{ $all = mergeOverwrite $all (deepCopy (. | default dict)) }}{{ end }}
{{- with $all }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Where to listen for whoever asks. */}}
{{- define "fate.anyAddress" -}}
{{ eq .Values.ipFamily "IPv6" | ternary "::" "0.0.0.0" }}
{{- end }}

{{- /* A pod's own address, as URLs have it. */}}
{{- define "fate.podHost" -}}
{{ eq .Values.ipFamily "IPv6" | ternary "[$(POD_IP)]" "$(POD_IP)" }}
{{- end }}

{{- /* A value as airflow.cfg has it: YAML's whole numbers are floats here, and would be 1e+06. */}}
{{- define "fate.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}
