{{- define "fate.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-fate" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "fate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
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
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "fate.secretName" -}}
{{ .Values.signingKey.existingSecret | default (printf "%s-gateways" (include "fate.name" .)) }}
{{- end }}

{{- /* The label of pods that may reach gateways; its value is the release. */}}
{{- define "fate.client" -}}
fate-gateway-client: {{ .Release.Name }}
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

{{- define "fate.restricted" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{- /* A value as airflow.cfg has it: YAML's whole numbers are floats here, and would be 1e+06. */}}
{{- define "fate.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}
