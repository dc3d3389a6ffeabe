{{- define "fate.airflow" -}}
{{ include "fate.name" . }}-airflow
{{- end }}

{{- define "fate.apiUrl" -}}
http://{{ include "fate.name" . }}-api-server:8080
{{- end }}

{{- /* airflow.cfg as section -> key -> value: what the chart knows, and over it what the user says. As JSON. */}}
{{- define "fate.airflowConfig" -}}
{{- $fate := merge (include "fate.settings" . | fromJson) .Values.fate.settings }}
{{- $_ := set $fate "inner_executor" .Values.airflow.innerExecutor }}
{{- /* Others ask a pod for its logs: they know its address, its name only where a Service says it. */}}
{{- $config := dict
  "core" (dict "hostname_callable" "airflow.utils.net.get_host_ip_address" "executor" "airflow_fate.executor.FateExecutor" "load_examples" "False" "dags_folder" "/opt/airflow/dags"
    "parallelism" "64" "max_active_tasks_per_dag" "1000" "default_pool_task_slot_count" "1000"
    "execution_api_server_url" (printf "%s/execution/" (include "fate.apiUrl" .))
    "simple_auth_manager_users" "admin:admin" "simple_auth_manager_passwords_file" "/opt/airflow/auth/passwords.json")
  "scheduler" (dict "max_tis_per_query" "100" "enable_health_check" "True" "scheduler_health_check_server_host" "0.0.0.0")
  "api" (dict "host" "0.0.0.0" "port" "8080")
  "fate" $fate }}
{{- if eq .Values.airflow.innerExecutor "KubernetesExecutor" }}
  {{- $_ := set $config "kubernetes_executor" (dict "namespace" .Release.Namespace "pod_template_file" "/opt/airflow/worker/pod_template.yaml" "worker_container_repository" .Values.image.repository "worker_container_tag" (.Values.image.tag | default .Chart.AppVersion)) }}
{{- end }}
{{- mergeOverwrite $config (deepCopy .Values.airflow.config) | toJson }}
{{- end }}

{{- /* What the chart sets of [fate] for any Airflow. */}}
{{- define "fate.settings" -}}
{{- dict "state_source" "kubernetes" "namespace" .Release.Namespace "pod_selector" (include "fate.engineSelector" .) "service_accounts" (printf "%s-gateway" (include "fate.name" .)) "gateway_port" (int .Values.gateway.port) "models_file" "/opt/airflow/fate/models.yaml" "label_prefix" .Values.fate.labelPrefix | toJson }}
{{- end }}

{{- /* Where one of Airflow's keys is: in a Secret of the user's, or in the chart's. Arguments: root, the key's values. */}}
{{- define "fate.keyRef" -}}
secretKeyRef: {name: {{ (index . 1).existingSecret | default (include "fate.airflow" (index . 0)) | quote }}, key: {{ (index . 1).key | quote }}}
{{- end }}

{{- define "fate.airflowEnv" -}}
- name: AIRFLOW__CORE__FERNET_KEY
  valueFrom: {{- include "fate.keyRef" (list . .Values.airflow.keys.fernet) | nindent 4 }}
- name: AIRFLOW__API_AUTH__JWT_SECRET
  valueFrom: {{- include "fate.keyRef" (list . .Values.airflow.keys.jwt) | nindent 4 }}
- name: AIRFLOW__API__SECRET_KEY
  valueFrom: {{- include "fate.keyRef" (list . .Values.airflow.keys.api) | nindent 4 }}
{{- if .Values.postgresql.enabled }}
- name: POSTGRES_PASSWORD
  valueFrom: {{- include "fate.keyRef" (list . .Values.postgresql.password) | nindent 4 }}
{{- end }}
- name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN
  {{- if .Values.postgresql.enabled }}
  value: postgresql+psycopg2://airflow:$(POSTGRES_PASSWORD)@{{ include "fate.name" . }}-postgresql:5432/airflow
  {{- else }}
  valueFrom: {secretKeyRef: {name: {{ .Values.airflow.database.existingSecret | quote }}, key: {{ .Values.airflow.database.key | quote }}}}
  {{- end }}
{{- if eq .Values.airflow.innerExecutor "CeleryExecutor" }}
- name: AIRFLOW__CELERY__BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.airflow.celery.brokerSecret | quote }}, key: broker}}
{{- end }}
- name: AIRFLOW_CONN_FATE_DEFAULT
  value: '{"conn_type": "fate"}'
{{- with .Values.airflow.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "fate.airflowMounts" -}}
{{- if or .Values.airflow.dags.existingClaim .Values.airflow.dags.configMap }}
- {name: dags, mountPath: /opt/airflow/dags, readOnly: true}
{{- end }}
- {name: logs, mountPath: /opt/airflow/logs}
{{- end }}

{{- define "fate.airflowVolumes" -}}
{{- with .Values.airflow.dags }}
{{- if .existingClaim }}
- name: dags
  persistentVolumeClaim: {claimName: {{ .existingClaim | quote }}}
{{- else if .configMap }}
- name: dags
  configMap: {name: {{ .configMap | quote }}}
{{- end }}
{{- end }}
- name: logs
  {{- if .Values.airflow.logs.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.airflow.logs.existingClaim | quote }}}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}

{{- /* A container of Airflow. Arguments: root, name, the `airflow` command's arguments. */}}
{{- define "fate.airflowContainer" -}}
{{- $root := index . 0 }}
name: {{ index . 1 }}
image: {{ include "fate.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
command: [airflow]
args: {{ index . 2 | toJson }}
envFrom:
  - configMapRef: {name: {{ include "fate.airflow" $root }}}
{{- include "fate.securityContext" (list "securityContext" $root.Values.airflow.securityContext) }}
{{- end }}

{{- /* Spec of a pod of Airflow but its containers. Arguments: root, ServiceAccount or "". */}}
{{- define "fate.airflowPod" -}}
{{- $root := index . 0 }}{{ $account := index . 1 }}
{{- if $account }}
serviceAccountName: {{ $account }}
{{- else }}
automountServiceAccountToken: false
{{- end }}
{{- include "fate.pullSecrets" $root }}
{{- include "fate.securityContext" (list "securityContext" $root.Values.airflow.podSecurityContext) }}
{{- with $root.Values.airflow.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.airflow.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Spec of the Job that migrates the database. Arguments: root, Airflow's settings. */}}
{{- define "fate.migration" -}}
{{- $root := index . 0 }}{{ $set := $root.Values.airflow }}
backoffLimit: 20
template:
  metadata:
    labels: {{- include "fate.selector" $root | nindent 6 }}
      app.kubernetes.io/component: migrate
      {{- include "fate.client" $root | nindent 6 }}
      {{- include "fate.also" (list $set.podLabels $set.jobs.podLabels) | nindent 6 }}
    annotations:
      checksum/config: {{ index . 1 | sha256sum }}
      {{- include "fate.also" (list $set.podAnnotations $set.jobs.podAnnotations) | nindent 6 }}
  spec:
    {{- include "fate.airflowPod" (list $root "") | nindent 4 }}
    restartPolicy: OnFailure
    containers:
      - {{- include "fate.airflowContainer" (list $root "migrate" (list "db" "migrate")) | nindent 8 }}
        env: {{- include "fate.airflowEnv" $root | nindent 10 }}
        volumeMounts: {{- include "fate.airflowMounts" $root | nindent 10 }}
    volumes: {{- include "fate.airflowVolumes" $root | nindent 6 }}
{{- end }}
