{{- /* A model as fleet files have it, as JSON. */}}
{{- define "fate.model" -}}
{{- dict "weights_gb" .weightsGb "load_gb_per_s" .loadGbPerS "prefill_tps" .prefillTps "decode_tps" .decodeTps "group_size" (.groupSize | default 1 | int) "decode_slowdown" (.decodeSlowdown | default dict) "context_slowdown" (.contextSlowdown | default dict) | toJson }}
{{- end }}

{{- /* What a pool's engine has by itself, or at first: its models without LoRA adapters. Arguments: root, pool. */}}
{{- define "fate.baseModels" -}}
{{- $root := index . 0 }}{{ $bases := list }}
{{- range (index . 1).models }}
  {{- if not (index $root.Values.models .).adapterOf }}{{ $bases = append $bases . }}{{ end }}
{{- end }}
{{- dict "names" $bases | toJson }}
{{- end }}

{{- /* Options of vLLM that don't depend on who starts it. Arguments: root, pool. */}}
{{- define "fate.vllmOptions" -}}
{{- $root := index . 0 }}{{ $pool := index . 1 }}
- --max-model-len={{ int64 $pool.contextTokens }}
- --max-num-seqs={{ int64 $pool.maxSeqs }}
{{- if $pool.batchTokens }}
- --max-num-batched-tokens={{ int64 $pool.batchTokens }}
{{- end }}
- --enable-prompt-tokens-details
{{- if gt (int $pool.gpus) 1 }}
- --tensor-parallel-size={{ int64 $pool.gpus }}
{{- end }}
{{- if and (eq $pool.driver "vllm-managed") $pool.hostGb }}
- --enable-sleep-mode
{{- end }}
{{- $adapters := sub (len $pool.models) (len (include "fate.baseModels" . | fromJson).names) }}
{{- if $adapters }}
- --enable-lora
- --max-loras={{ $adapters }}
{{- end }}
{{- with $pool.engine.args }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What a gateway reads: airflow_fate.gateway.settings. $(NAME) is the pod's environment. Arguments: root, pool. */}}
{{- define "fate.fleet" -}}
{{- $root := index . 0 }}{{ $pool := index . 1 }}
{{- $models := dict }}
{{- range $pool.models }}
  {{- $values := index $root.Values.models . }}
  {{- $model := include "fate.model" $values | fromJson }}
  {{- with $values.source }}{{ $_ := set $model (ternary "adapter" "file" (not (empty $values.adapterOf))) . }}{{ end }}
  {{- $_ := set $models . $model }}
{{- end }}
{{- $device := dict "node" "$(NODE_NAME)" "gpu" $pool.gpu "engine" $pool.driver "memory_gb" $pool.memoryGb "kv_tokens" (int64 $pool.kvTokens) "max_seqs" (int64 $pool.maxSeqs) "batch_tokens" (int64 $pool.batchTokens) "context_tokens" (int64 $pool.contextTokens) "cache_ram_mib" (int64 $pool.cacheRamMib) "threads" (int $pool.threads) "load_timeout_s" (int64 $pool.engine.loadTimeoutS) "port" (int $root.Values.gateway.port) }}
{{- if has $pool.driver (list "vllm" "openai") }}
  {{- $_ := set $device "engine_url" (printf "http://%s:%d" (include "fate.podHost" $root) (int $pool.engine.port)) }}
  {{- with $pool.apiKeySecret.name }}
    {{- $_ := set $device "engine_key_file" "/var/lib/fate/engine-key/key" }}
  {{- end }}
{{- end }}
{{- if and (eq $pool.driver "vllm") $pool.engine.eventsPort }}
  {{- /* ZeroMQ's "all interfaces" are those of IPv4; the gateway shares the loopback one. */}}
  {{- $host := eq $root.Values.ipFamily "IPv6" | ternary "127.0.0.1" "$(POD_IP)" }}
  {{- $_ := set $device "events_url" (printf "tcp://%s:%d" $host (int $pool.engine.eventsPort)) }}
{{- end }}
{{- if eq $pool.driver "vllm-managed" }}
  {{- $command := concat ($pool.engine.command | default (list "vllm" "serve")) (include "fate.vllmOptions" . | fromYamlArray) }}
  {{- $_ := set $device "engine_command" $command }}
  {{- $_ := set $device "engine_sleeps" (gt (float64 $pool.hostGb) 0.0) }}
{{- end }}
{{- dict "models" $models "nodes" (dict "$(NODE_NAME)" (dict "host_gb" $pool.hostGb)) "devices" (dict "$(POD_NAME)" $device) "artifacts_gb" $root.Values.gateway.artifactsGb "label_prefix" $root.Values.fate.labelPrefix "prefix_labels" $root.Values.gateway.prefixLabels "limits" $root.Values.gateway.limits "drain_s" $root.Values.gateway.drainS | toPrettyJson -}}
{{- end }}

{{- define "fate.poolSelector" -}}
{{ include "fate.selector" (index . 0) }}
app.kubernetes.io/component: engine
fate-pool: {{ index . 1 | quote }}
{{- end }}

{{- define "fate.limits" -}}
{{- $resources := deepCopy .engine.resources }}
{{- if .gpus }}
  {{- $_ := set $resources "limits" (merge (dict .gpuResource (int .gpus)) ($resources.limits | default dict)) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- /* Size of /dev/shm: as asked; or, where several processes share a model, 2 GiB for each GPU instead of 64 MiB in all. */}}
{{- define "fate.sharedMemory" -}}
{{- if .sharedMemory }}{{ .sharedMemory }}
{{- else if or (gt (int .gpus) 1) (gt (int .group.size) 1) }}{{ mul 2 (max 1 (int .gpus)) }}Gi
{{- end }}
{{- end }}

{{- define "fate.engineEnv" -}}
{{- $root := index . 0 }}{{ $pool := index . 1 }}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: FATE_GATEWAY_HEALTH
  value: http://{{ include "fate.podHost" $root }}:{{ $root.Values.gateway.port }}/health
{{- if gt (len $pool.models) (len (include "fate.baseModels" . | fromJson).names) }}
- {name: VLLM_ALLOW_RUNTIME_LORA_UPDATING, value: "True"}
{{- end }}
{{- with $pool.tokenSecret }}
{{- if .name }}
- name: {{ .env | quote }}
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- if and (eq $pool.driver "vllm") $pool.apiKeySecret.name }}
- name: VLLM_API_KEY
  valueFrom: {secretKeyRef: {name: {{ $pool.apiKeySecret.name | quote }}, key: {{ $pool.apiKeySecret.key | quote }}}}
{{- end }}
{{- if and (eq $pool.driver "vllm") (not (hasPrefix "/root" $pool.cache.mountPath)) }}
# Whoever vLLM runs as: folders that it may write, and a name.
- {name: HF_HOME, value: {{ $pool.cache.mountPath | quote }}}
- {name: HOME, value: /tmp}
- {name: USER, value: fate}
{{- end }}
{{- with $pool.engine.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "fate.engineMounts" -}}
- {name: cache, mountPath: {{ .cache.mountPath | quote }}}
{{- if include "fate.sharedMemory" . }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- end }}

{{- /* An engine in a container of its own. Arguments: root, pool, whether it is a group's worker. */}}
{{- define "fate.engine" -}}
{{- $root := index . 0 }}{{ $pool := index . 1 }}{{ $worker := index . 2 }}
{{- $command := ternary $pool.group.workerCommand $pool.engine.command $worker }}
- name: engine
  image: {{ $pool.engine.image | quote }}
  imagePullPolicy: {{ $pool.engine.pullPolicy }}
  {{- with $command }}
  command: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $worker }}
  {{- with $pool.group.workerArgs }}
  args: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- else if or $pool.engine.args (eq $pool.driver "vllm") }}
  args:
    {{- if eq $pool.driver "vllm" }}
    {{- $model := first (include "fate.baseModels" (list $root $pool) | fromJson).names }}
    - {{ printf "--model=%s" (index $root.Values.models $model).source | quote }}
    - {{ printf "--served-model-name=%s" $model | quote }}
    - {{ printf "--host=%s" (include "fate.anyAddress" $root) | quote }}
    - --port={{ $pool.engine.port }}
    {{- with $pool.engine.eventsPort }}
    # vLLM's publisher listens on all interfaces or none: an address of one is one to connect to.
    - --kv-events-config={{ dict "enable_kv_cache_events" true "publisher" "zmq" "endpoint" (printf "tcp://*:%d" (int .)) | toJson }}
    {{- end }}
    {{- include "fate.vllmOptions" (list $root $pool) | nindent 4 }}
    {{- else }}
    {{- toYaml $pool.engine.args | nindent 4 }}
    {{- end }}
  {{- end }}
  env: {{- include "fate.engineEnv" (list $root $pool) | nindent 4 }}
  {{- with include "fate.limits" $pool }}
  resources: {{- . | nindent 4 }}
  {{- end }}
  {{- include "fate.securityContext" (list "securityContext" $pool.engine.securityContext) | nindent 2 }}
  {{- if not $worker }}
  ports:
    - {name: engine, containerPort: {{ $pool.engine.port }}}
  # Loading is start-up: as long as it lasts, neither of the other probes runs.
  startupProbe:
    httpGet: {path: {{ $pool.engine.healthPath | quote }}, port: engine}
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: {{ divf $pool.engine.loadTimeoutS 5 | ceil | int }}
  readinessProbe:
    httpGet: {path: {{ $pool.engine.healthPath | quote }}, port: engine}
    periodSeconds: 5
    timeoutSeconds: 5
  # A busy engine answers late; three minutes of silence are a hang.
  livenessProbe:
    httpGet: {path: {{ $pool.engine.healthPath | quote }}, port: engine}
    periodSeconds: 30
    timeoutSeconds: 20
    failureThreshold: 6
  {{- with $pool.engine.preStopCommand }}
  lifecycle:
    preStop:
      exec:
        command: {{- toYaml . | nindent 10 }}
  {{- end }}
  {{- end }}
  volumeMounts: {{- include "fate.engineMounts" $pool | nindent 4 }}
{{- end }}

{{- /* The gateway; engines of drivers llamacpp, simulated and vllm-managed run inside it. Arguments: root, pool. */}}
{{- define "fate.gateway" -}}
{{- $root := index . 0 }}{{ $pool := index . 1 }}
{{- $inside := not (has $pool.driver (list "vllm" "openai")) }}
- name: gateway
  {{- if and $inside $pool.engine.image }}
  image: {{ $pool.engine.image | quote }}
  imagePullPolicy: {{ $pool.engine.pullPolicy }}
  {{- else }}
  image: {{ include "fate.image" $root | quote }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  {{- end }}
  # The name that vLLM's image has for it, too.
  command: [python3, -m, airflow_fate.gateway]
  args: [--fleet-dir, /var/lib/fate, --device, $(POD_NAME), --host, {{ include "fate.anyAddress" $root | quote }}, --own-pod]
  env:
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    - name: POD_NAMESPACE
      valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
    - name: POD_UID
      valueFrom: {fieldRef: {fieldPath: metadata.uid}}
    - name: NODE_NAME
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    {{- if $inside }}
    {{- include "fate.engineEnv" (list $root $pool) | nindent 4 }}
    {{- if eq $pool.driver "vllm-managed" }}
    # An image of vLLM's doesn't know the user: folders for what is downloaded and compiled, and a name.
    - {name: HF_HOME, value: {{ $pool.cache.mountPath | quote }}}
    - {name: HOME, value: /var/lib/fate}
    - {name: USER, value: fate}
    {{- end }}
    {{- else }}
    - name: POD_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    {{- end }}
  ports:
    - {name: gateway, containerPort: {{ $root.Values.gateway.port }}}
  startupProbe:
    httpGet: {path: /health, port: gateway}
    periodSeconds: 2
    failureThreshold: 60
  readinessProbe:
    httpGet: {path: /health, port: gateway}
    periodSeconds: 5
    timeoutSeconds: 5
  livenessProbe:
    httpGet: {path: /health, port: gateway}
    periodSeconds: 15
    timeoutSeconds: 10
  {{- $resources := ternary (include "fate.limits" $pool | fromYaml) $root.Values.gateway.resources $inside }}
  {{- with $resources }}
  resources: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "fate.securityContext" (list "securityContext" $root.Values.gateway.securityContext) | nindent 2 }}
  volumeMounts:
    - {name: work, mountPath: /var/lib/fate}
    - {name: fleet, mountPath: /var/lib/fate/fleet.json, subPath: fleet.json, readOnly: true}
    - {name: signing-key, mountPath: /var/lib/fate/secret, subPath: secret, readOnly: true}
    - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
    {{- if and (not $inside) $pool.apiKeySecret.name }}
    - {name: engine-key, mountPath: /var/lib/fate/engine-key, readOnly: true}
    {{- end }}
    {{- if $inside }}
    {{- include "fate.engineMounts" $pool | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* Metadata and spec of a pool's pods. Arguments: root, name, pool, whether workers of a group. */}}
{{- define "fate.poolPod" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $pool := index . 2 }}{{ $worker := index . 3 }}
metadata:
  labels:
    {{- if $worker }}
    {{- include "fate.selector" $root | nindent 4 }}
    app.kubernetes.io/component: engine-worker
    fate-pool: {{ $name | quote }}
    {{- else }}
    {{- include "fate.poolSelector" (list $root $name) | nindent 4 }}
    {{- end }}
    {{- with $pool.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # What a gateway reads, it reads once: new settings are new pods.
    checksum/fleet: {{ include "fate.fleet" (list $root $pool) | sha256sum }}
    {{- with $pool.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "fate.name" $root }}-gateway
  # Only the gateway gets the account's token: engines run other people's code.
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ add (int $root.Values.gateway.drainS) 30 }}
  {{- include "fate.pullSecrets" $root | nindent 2 }}
  {{- include "fate.securityContext" (list "securityContext" $pool.podSecurityContext) | nindent 2 }}
  {{- with $pool.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $pool.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pool.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $pool.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    {{- if has $pool.driver (list "vllm" "openai") }}
    {{- include "fate.engine" (list $root $pool $worker) | nindent 4 }}
    {{- end }}
    {{- if not $worker }}
    {{- include "fate.gateway" (list $root $pool) | nindent 4 }}
    {{- end }}
  volumes:
    - name: cache
      {{- if $pool.cache.existingClaim }}
      persistentVolumeClaim: {claimName: {{ $pool.cache.existingClaim | quote }}}
      {{- else if $pool.cache.hostPath }}
      hostPath: {path: {{ $pool.cache.hostPath | quote }}, type: DirectoryOrCreate}
      {{- else if $pool.cache.sizeLimit }}
      emptyDir: {sizeLimit: {{ $pool.cache.sizeLimit | quote }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- with include "fate.sharedMemory" $pool }}
    - name: shared-memory
      emptyDir: {medium: Memory, sizeLimit: {{ . | quote }}}
    {{- end }}
    {{- if not $worker }}
    - name: work
      emptyDir: {}
    - name: fleet
      configMap: {name: {{ include "fate.name" $root }}-pool-{{ $name }}}
    - name: signing-key
      secret:
        secretName: {{ include "fate.secretName" $root | quote }}
        items: [{key: {{ $root.Values.signingKey.key | quote }}, path: secret}]
    {{- if and (has $pool.driver (list "vllm" "openai")) $pool.apiKeySecret.name }}
    - name: engine-key
      secret:
        secretName: {{ $pool.apiKeySecret.name | quote }}
        items: [{key: {{ $pool.apiKeySecret.key | quote }}, path: key}]
    {{- end }}
    - name: api-token
      projected:
        sources:
          - serviceAccountToken: {path: token, expirationSeconds: 3600}
          - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
          - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
    {{- end }}
{{- end }}
