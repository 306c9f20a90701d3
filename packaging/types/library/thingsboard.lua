---@meta thingsboard
-- Written by packaging/manual/types.lua from the comments in lua/: `make types` writes it anew.

---What an error is: one of these words in its field `kind`.
---@alias thingsboard.error_kind
---| "value" # the value cannot be sent unchanged
---| "http" # the server itself answered with a status that is no success
---| "answer" # somebody else answered in the server's place, or the answer makes no sense or is too large
---| "timeout" # no answer in time
---| "network" # no connection, or one that broke
---| "tls" # the other side is not who it should be, or speaks no TLS
---| "closed" # the device was closed during the call
---| "memory" # memory has run out
---| "file" # a file cannot be read or written
---| "full" # the outbox is full
---| "clock" # the outbox does not know the time yet
---| "package" # the download is not what was announced
---| "not_found" # the server knows no such provisioning key and secret
---| "refused" # the server provisions no credentials for this device

---What is returned behind nil when the world fails.
---@class thingsboard.error
---@field kind thingsboard.error_kind
---@field message string what is wrong and what may help
---@field retryable boolean the same call may succeed later
---@field status? integer of an answer
---@field code? string libcurl's name of the error
---@field credentials? thingsboard.credentials what `provision` could not keep

---@class thingsboard.attributes
---@field client table<string, any>
---@field shared table<string, any>

---@class thingsboard.credentials
---@field credentials_type string
---@field token? string
---@field certificate? string
---@field client_id? string
---@field username? string
---@field password? string

---@class thingsboard.outbox.stats
---@field records integer that wait
---@field unconfirmed integer that are sent, and not yet shown to be stored
---@field bytes integer that wait
---@field attributes integer that wait
---@field sent table<string, integer> records, attributes, posts and more since it was opened
---@field lost table<string, integer> records by cause, since the file was made
---@field trouble? string why the disk cannot be written
---@field err? thingsboard.error the last error of sending, if the last post failed
---@field in_doubt integer that were refused alone, and are tried again
---@field limits? { points: integer?, posts: number? } what the server was found to take
---@field confirm boolean|string whether the server shows what is stored, or why it does not

---@class thingsboard.outbox.rejected
---@field body string JSON text of a list of records
---@field reason string the server's words
---@field at integer milliseconds since 1970

---The iterator over RPC requests.
---@class thingsboard.rpc_requests
---@field error? thingsboard.error why the loop ended by itself
---@field close fun(self: thingsboard.rpc_requests)
---@overload fun(): thingsboard.rpc_request

---The iterator over the values of shared attributes, and the keys that were deleted.
---@class thingsboard.attribute_updates
---@field error? thingsboard.error why the loop ended by itself
---@field close fun(self: thingsboard.attribute_updates)
---@overload fun(): table<string, any>, string[]

---What `apply` is called with.
---@class thingsboard.package
---@field title string
---@field version string
---@field tag? string
---@field size integer bytes
---@field path string of the verified file

---@class (exact) thingsboard.options.current
---@field title string
---@field version string

---@class (exact) thingsboard.options.drain
---@field deadline? number seconds after which it gives up

---An RPC request of the server.
---@class thingsboard.rpc_request
---@field id integer
---@field method string
---@field params any
local thingsboard_rpc_request = {}

---A device: the endpoints of the server's device API, a method each.
---@class thingsboard.device
local thingsboard_device = {}

---Records and attributes that are kept on disk until the server has them.
---@class thingsboard.outbox
local thingsboard_outbox = {}

---@class thingsboard.task
local thingsboard_task = {}

---The loop that everything waits in.
---@class thingsboard.loop
local thingsboard_loop = {}

---@class thingsboard.loop_module
local thingsboard_loop_module = {}

---@class thingsboard
---@field version string
---@field null any JSON's null
local thingsboard = {}

---@class (exact) thingsboard.options.attribute_updates
---@field period? number seconds that a poll stays open; default: 20

---@class (exact) thingsboard.options.claim
---@field secret_key? string what a user must enter to claim the device
---@field duration_ms? integer milliseconds for which the device can be claimed; without it the server's setting applies

---@class (exact) thingsboard.options.device
---@field token? string the device's access token; this or `token_file` is required
---@field token_file? string a file with the token, or a `store` of `provision`; its group may read it, no other user; after a 401 it is read again
---@field url string `http://` or `https://`, a host, and optionally a port and a path
---@field timeout? number seconds for a whole call; default: 35
---@field connect_timeout? number seconds until there is a connection; default: 10
---@field verify? boolean `false` turns off the checks of certificate and name; default: true
---@field ca_file? string PEM file of the authorities to trust, instead of the system's
---@field ca_path? string folder of such files, with the names that `openssl rehash` gives them
---@field pinned_key? string the server's public key, in curl's form: `sha256//...`
---@field client_cert? string PEM file of the device's own certificate
---@field client_key? string PEM file of its key
---@field client_key_password? string the key's pass phrase, if it has one
---@field proxy? string like `http://host:port` or `socks5h://host:port`; the environment's proxies are ignored
---@field interface? string name or address of the network interface to send from; without libcurl's `if!` or `host!`, with which some releases (8.14) use connections of other devices
---@field max_response? integer the largest answer that is kept in memory, in bytes; default: 4194304
---@field user_agent? string the value of the header `User-Agent`; default: "thingsboard-lua"

---@class (exact) thingsboard.options.elsewhere
---@field timeout? number seconds for a whole call; default: 35
---@field connect_timeout? number seconds until there is a connection; default: 10
---@field verify? boolean `false` turns off the checks of certificate and name; default: true
---@field ca_file? string|false PEM file of the authorities to trust, instead of the system's
---@field ca_path? string|false folder of such files, with the names that `openssl rehash` gives them
---@field pinned_key? string the server's public key, in curl's form: `sha256//...`
---@field client_cert? string PEM file of the device's own certificate
---@field client_key? string PEM file of its key
---@field client_key_password? string the key's pass phrase, if it has one
---@field proxy? string|false like `http://host:port` or `socks5h://host:port`; the environment's proxies are ignored
---@field interface? string|false name or address of the network interface to send from; without libcurl's `if!` or `host!`, with which some releases (8.14) use connections of other devices
---@field max_response? integer the largest answer that is kept in memory, in bytes; default: 4194304
---@field user_agent? string the value of the header `User-Agent`; default: "thingsboard-lua"

---@class (exact) thingsboard.options.outbox
---@field path string the file; one process at a time can use it
---@field name? string tells devices that share a file apart; default: "device"
---@field sync_every? number seconds between commits, which saves flash memory; without it every `put` is a commit
---@field batch_bytes? integer the largest post, in bytes; default: 262144
---@field batch_records? integer the most records of a post; default: 10000
---@field batch_points? integer the most points of a post; a point is a value of a key; default: 100000
---@field messages? string limits for requests, in the server's notation of amounts and seconds: `"20:1,600:60"`; without it they are learned
---@field points? string limits for points, in the same notation; without it they are learned
---@field plan? "cloud-free" `"cloud-free"`: sets `messages` and `points` to the limits of ThingsBoard Cloud's free plan, unless they are given
---@field confirm? boolean a record stays in the file until the server has shown that it is stored; with `false` until the post is answered 200; default: true
---@field confirm_key? string the client attribute that serves as the marker; outboxes of one device that send at the same time are faster with one each. An attribute, or telemetry, with this name and `_sample` is posted while it is proved that the server refuses another; default: "outbox_marker"
---@field max_records? integer the most records that may wait
---@field max_bytes? integer the most bytes of the file and its log together, 64 KiB or more; by default at most half the file system; default: 67108864
---@field max_age? number seconds after which a record is dropped
---@field when_full? "drop_oldest"|"refuse" or `"refuse"`: `put` returns nil and an error of the kind `full`; default: "drop_oldest"
---@field on_trouble? "error"|"memory" while the disk fails, `put` returns nil and an error of the kind `file`; with `"memory"` up to 10,000 records wait in memory until it works again; default: "error"
---@field server_time? boolean where the server's `Date` differs from the system's clock by more than a minute, it dates records, to a second; `false`: they wait until the clock is known; default: true

---@class (exact) thingsboard.options.package
---@field title string of the assigned package
---@field version string of the assigned package
---@field size? integer bytes, as in the shared attribute `fw_size`; the download is checked against it
---@field checksum? string as in the shared attribute `fw_checksum`; the download is checked against it
---@field checksum_algorithm? string as in the shared attribute `fw_checksum_algorithm`
---@field path? string a file to write; without it the package is returned as a string of `max_response` bytes at most
---@field chunk_size? integer bytes to ask for in one request; without it one request asks for the whole package
---@field progress? fun(received: integer, total: integer?) called with the bytes received so far and the total, which is nil when the server does not tell it

---@class (exact) thingsboard.options.provision
---@field key string the device profile's provision device key
---@field secret string the device profile's provision device secret
---@field device_name? string the name of the device to create or to find; without it the server makes one up
---@field credentials_type? "ACCESS_TOKEN"|"X509_CERTIFICATE"|"MQTT_BASIC"|"LWM2M_CREDENTIALS" the kind of credentials; without it `ACCESS_TOKEN`
---@field token? string the access token that the device asks for
---@field client_id? string for `MQTT_BASIC`
---@field username? string for `MQTT_BASIC`
---@field password? string for `MQTT_BASIC`
---@field hash? string the certificate of `X509_CERTIFICATE`, in PEM
---@field gateway? boolean whether the new device is a gateway
---@field store? string a file of mode 0600 that keeps the credentials
---@field anew? boolean ask the server even though `store` has credentials; default: false
---@field url string `http://` or `https://`, a host, and optionally a port and a path
---@field timeout? number seconds for a whole call; default: 35
---@field connect_timeout? number seconds until there is a connection; default: 10
---@field verify? boolean `false` turns off the checks of certificate and name; default: true
---@field ca_file? string PEM file of the authorities to trust, instead of the system's
---@field ca_path? string folder of such files, with the names that `openssl rehash` gives them
---@field pinned_key? string the server's public key, in curl's form: `sha256//...`
---@field client_cert? string PEM file of the device's own certificate
---@field client_key? string PEM file of its key
---@field client_key_password? string the key's pass phrase, if it has one
---@field proxy? string like `http://host:port` or `socks5h://host:port`; the environment's proxies are ignored
---@field interface? string name or address of the network interface to send from; without libcurl's `if!` or `host!`, with which some releases (8.14) use connections of other devices
---@field max_response? integer the largest answer that is kept in memory, in bytes; default: 4194304
---@field user_agent? string the value of the header `User-Agent`; default: "thingsboard-lua"

---@class (exact) thingsboard.options.request_attributes
---@field client? string[] list of keys of client attributes
---@field shared? string[] list of keys of shared attributes

---@class (exact) thingsboard.options.rpc_requests
---@field period? number seconds from one end of a poll to its next; two polls run, half a period apart; default: 18

---@class (exact) thingsboard.options.service
---@field derive? table the token is computed from `id_file`, whose first line is a hardware id, and `secret_file`, which holds the secret of the fleet
---@field provision? table the token is asked for: options of `tb.provision` with a `store`; `secret_file` may stand for `secret`
---@field scripts? string the folder of the scripts: each `*.lua` in it is one
---@field outbox? thingsboard.outbox options of `dev:outbox`; without them values are sent at once, and lost when that fails
---@field collectors? table the collectors to run, each by its name with a table of its options
---@field updates? table options of `dev:updates`, or a list of such. `apply` is the path of an executable; without it a script installs packages by `on_update`
---@field report? table the service's own values are sent: `every` so many seconds, 300 by default, `as` `"telemetry"` (by default) or `"attributes"`
---@field state? string a file that gets the service's state each minute, as JSON
---@field clock_file? string a file that a hook of NTP makes when the clock is set: see `tb.clock`
---@field log? "error"|"warning"|"info"|"debug" what is less important is not logged; default: "info"

---@class (exact) thingsboard.options.updates
---@field kind "firmware"|"software" `"firmware"` or `"software"`
---@field current thingsboard.options.current `title` and `version` of what is running now
---@field directory string folder for the state and the package
---@field package_directory? string another folder for the package, such as `/tmp` in memory
---@field apply fun(package: thingsboard.package): boolean|"again"|nil, string?, any called with a table of `title`, `version`, `tag`, `size` and the `path` of the verified file
---@field chunk_size? integer bytes to ask for in one request, the most that an interruption costs; at most the device's `max_response`; default: 262144
---@field progress? fun(received: integer, total: integer?) called with the bytes received so far and the total, which is nil when the server does not tell it
---@field strong? boolean refuse MD5, CRC32 and MURMUR3; default: false
---@field unverified? "https" `"https"`: take packages by URL that have no checksum, by https
---@field allow_http? boolean take packages by URL without TLS; default: false
---@field url_options? thingsboard.options.elsewhere options of the connection for packages by URL, as of `tb.device`; without them the device's time-outs, `ca_file`, `ca_path`, `proxy`, `interface` and `user_agent` are used; `false` turns one of `ca_file` to `interface` off
---@field outbox? thingsboard.outbox an outbox; the states are put there instead of being posted
---@field attribute_updates? function called with a list of keys in place of the device's method of this name, where one poll serves several: returns such an iterator

---Whether the time is known. Outboxes date records only then; before, records wait with the time since the system's start, and are dated once it is. It is known when the script says so, once a file is there that a hook of NTP makes, or when an answer of ThingsBoard's has told it to an outbox.
---@param known? boolean|string true or false: the system's clock is right, or is not; or the path of the hook's file, which should be gone after a restart of the system, as in `/tmp` of OpenWrt
---@return boolean
function thingsboard.clock(known) end

---Starts a task: a function that is suspended, alone, in every call that waits. It runs in `run`, and whenever other code waits.
---@param body function
---@param ... any its arguments
---@return thingsboard.task
function thingsboard.spawn(body, ...) end

---Waits for some seconds, while other tasks run.
---@param seconds number
function thingsboard.sleep(seconds) end

---Calls a function, in a task of its own, whenever the process gets a signal; `run` does not wait for signals. Several functions may be called for one signal.
---@param name string `"HUP"`, `"INT"`, `"TERM"`, `"QUIT"`, `"USR1"`, `"USR2"`, `"PIPE"` or `"CHLD"`
---@param handler fun(name: string) called with the name
---@return { close: fun(self: any) }
function thingsboard.on_signal(name, handler) end

---Runs until no task is left.
function thingsboard.run() end

---Limits the connections to one server, for all devices; without a limit there are as many as calls in flight. Set it before the first call: earlier calls are not limited. Over HTTP/1.1 an open poll occupies a connection: two for each `rpc_requests`, one for each `attribute_updates`. A call that finds none free waits until a poll ends, so allow one more. Over HTTP/2 calls share connections.
---@param count? integer nil for no bound
function thingsboard.max_connections(count) end

---Sets the handler of errors in tasks. Without one they are written to the standard error. The other tasks go on; if the handler raises, `run` ends with its error.
---@param handler fun(task: thingsboard.task, message: string) called with the task and the message with its traceback
function thingsboard.on_error(handler) end

---A device.
---@param given thingsboard.options.device
---@return thingsboard.device
---@return thingsboard.error?
function thingsboard.device(given) end

---Asks the server for credentials (device API, "provision"). With `store` the credentials are on disk before this returns, and come from there the next time, unless `anew` is true.
---@param given thingsboard.options.provision
---@return thingsboard.credentials?
---@return thingsboard.error?
function thingsboard.provision(given) end

---Derives an access token: the first 32 hexadecimal digits of HMAC-SHA256 with the secret as the key and the id as the message, as `printf %s ID | openssl dgst -sha256 -hmac SECRET` prints them.
---@param id string what no other device has: a serial number, a MAC address
---@param secret string of the fleet, at least 16 bytes; with it anyone can pose as any device
---@return string
function thingsboard.derive_token(id, secret) end

---Marks a table as an array, so that an empty one is written `[]`.
---@param list table
---@return table
function thingsboard.array(list) end

---The time for `ts`.
---@return integer
function thingsboard.now() end

---Posts telemetry (device API, "telemetry").
---@param value table|string a table of values; `{ts=, values=}` with `ts` in milliseconds; a list of both; or JSON text
---@return true?
---@return thingsboard.error?
function thingsboard_device:send_telemetry(value) end

---Publishes client attributes (device API, "attributes").
---@param values table|string a table of values, or JSON text
---@return true?
---@return thingsboard.error?
function thingsboard_device:send_attributes(values) end

---Requests attributes (device API, "attributes").
---@param keys? thingsboard.options.request_attributes all attributes when neither list names any
---@return thingsboard.attributes?
---@return thingsboard.error?
function thingsboard_device:request_attributes(keys) end

---Iterates over the changes of shared attributes, beginning with their values (device API, "attributes/updates"). No lasting change is missed, none is returned twice; changes while the script is busy are returned together.
---@param keys? string[] names; all when absent
---@param given? thingsboard.options.attribute_updates
---@return thingsboard.attribute_updates
function thingsboard_device:attribute_updates(keys, given) end

---Iterates over the server's RPC requests (device API, "rpc"), each with `id`, `method`, `params` and `reply(value)`. No request is lost between two polls, none is returned twice. Reply to every two-way request: until then the server holds back the requests behind it.
---@param given? thingsboard.options.rpc_requests
---@return thingsboard.rpc_requests
function thingsboard_device:rpc_requests(given) end

---Answers an RPC request of the server (device API, "rpc/{id}").
---@param id integer
---@param value? any any JSON value; nil goes as null
---@return true?
---@return thingsboard.error?
function thingsboard_device:reply_rpc(id, value) end

---Answers the server's RPC requests by handlers, one after another, until the device is closed. A handler is called with `params` and the request; what it returns is the answer. One that raises is answered `{error = message}`, and so is a method without a handler.
---
---One-way requests are answered as well, which costs a post and does no harm. Nothing in a request tells its kind. That a request is not repeated proves nothing either: a server that sends requests in sequence repeats none, and a two-way request without an answer blocks all later ones.
---@param handlers table<string, fun(params: any, request: thingsboard.rpc_request): any> functions by method
---@param given? thingsboard.options.rpc_requests
---@return nil
---@return thingsboard.error?
function thingsboard_device:serve_rpc(handlers, given) end

---Sends a request to the server (device API, "rpc"), which its rule chain answers.
---@param method string
---@param params? any any JSON value; nil goes as null
---@return any
---@return thingsboard.error?
function thingsboard_device:send_rpc(method, params) end

---Lets a user claim the device (device API, "claim"). The server answers 200 even if claiming is not allowed; only the user sees that. After one wrong secret the server forgets the claim: call this again then.
---@param given? thingsboard.options.claim
---@return true?
---@return thingsboard.error?
function thingsboard_device:claim(given) end

---Downloads the firmware that is assigned (device API, "firmware").
---@param given thingsboard.options.package
---@return string?
---@return thingsboard.error?
function thingsboard_device:firmware(given) end

---Downloads the software that is assigned (device API, "software"); as `firmware`.
---@param given thingsboard.options.package
---@return string?
---@return thingsboard.error?
function thingsboard_device:software(given) end

---Keeps firmware or software up to date: learns of packages from the shared attributes, downloads them so that an interruption costs no more than a chunk, verifies them on disk, applies each at most once, tells the server the states DOWNLOADING, DOWNLOADED, VERIFIED, UPDATING, and UPDATED or FAILED. Run it in a task; a restart does no harm. `apply` returns true when the new version runs, "again" to be called again, else nil and a reason. When it does not return because the system restarts, `current` tells at the next start how it went.
---@param given thingsboard.options.updates
---@return nil
---@return thingsboard.error?
function thingsboard_device:updates(given) end

---Opens an outbox: a record is on disk when `put` returns, and is sent when the server can be reached.
---@param given thingsboard.options.outbox
---@return thingsboard.outbox?
---@return thingsboard.error?
function thingsboard_device:outbox(given) end

---Calls a function whenever a request has ended, as long as the device exists.
---@param listener fun(status: integer?, err: thingsboard.error?) called with the status of the server's answer, nil when there was none, or it was somebody else's; and with the error, unless the request has succeeded
function thingsboard_device:listen(listener) end

---Ends all calls in flight, polls included. Idempotent.
function thingsboard_device:close() end

---Answers the request.
---@param value any any JSON value
---@return true?
---@return thingsboard.error?
function thingsboard_rpc_request:reply(value) end

---Records values. They are on disk when this returns, unless `sync_every` is set.
---@param values table a table of values, which get the time of this call; `{ts=, values=}` with `ts` in milliseconds; or a list of both
---@param in_order? boolean they are sent behind all that waits, not before it
---@return true?
---@return thingsboard.error?
function thingsboard_outbox:put(values, in_order) end

---Writes at once what `sync_every` holds back.
---@return true?
---@return thingsboard.error?
function thingsboard_outbox:sync() end

---Records client attributes. Of each key only the last value is kept, and sent.
---@param values table
---@return true?
---@return thingsboard.error?
function thingsboard_outbox:attributes(values) end

---The posts that were set aside because the server does not accept them: the last thousand.
---@return thingsboard.outbox.rejected[]?
---@return thingsboard.error?
function thingsboard_outbox:rejected() end

---The outbox's state and counters.
---@return thingsboard.outbox.stats
function thingsboard_outbox:stats() end

---Sends what waits and what comes, until the outbox or its device is closed: run it in a task.
---@return nil
---@return thingsboard.error?
function thingsboard_outbox:run() end

---Sends what waits.
---@param given? thingsboard.options.drain `deadline`: seconds after which it gives up
---@return true?
---@return thingsboard.error?
function thingsboard_outbox:drain(given) end

---Writes what waits in memory, and closes the file. Idempotent.
---@return true?
---@return thingsboard.error?
function thingsboard_outbox:close() end

---Whether the task has come to its end.
---@return boolean
function thingsboard_task:done() end

---Waits for the task's end.
---@return true?
---@return any
function thingsboard_task:join() end

---Ends the task where it waits: its to-be-closed variables are closed, its exchange in flight is dropped. Does nothing when it has ended already.
function thingsboard_task:cancel() end

---The loop that all devices use. It is made at the first call, and again after it was closed.
---@return thingsboard.loop
function thingsboard_loop_module.default() end

---Starts a task. It runs for the first time at the next step.
---@param body function
---@param ... any its arguments
---@return thingsboard.task
function thingsboard_loop:spawn(body, ...) end

---Waits until an event happens that somebody waits for, or not at all when a task is ready; then runs the tasks that are ready.
---@param timeout? number seconds to wait at most; nil for as long as it takes
function thingsboard_loop:step(timeout) end

---Waits for some seconds. Other tasks run during that time, for one step at least.
---@param seconds number
function thingsboard_loop:sleep(seconds) end

---The descriptor to watch for reading: readable when `step` has something to do.
---@return integer
function thingsboard_loop:pollfd() end

---What to watch the descriptor for.
---@return string
function thingsboard_loop:events() end

---How long until the next timer, when `step` has something to do though no descriptor is readable.
---@return number?
function thingsboard_loop:timeout() end

---Runs until no task is left.
function thingsboard_loop:run() end

---Cancels all tasks, closes all devices, their connections and the descriptor. Idempotent.
function thingsboard_loop:close() end

return thingsboard
