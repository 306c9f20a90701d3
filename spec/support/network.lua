--- Two network namespaces and a cable between them, to be cut: the server's, in which the caller runs, and the
-- device's. Everything is in namespaces of its own, the processes too: all of it ends with `inside`'s process.
-- @usage
-- network.inside(arg)       -- in a new process, in new namespaces
-- local net = network.new() -- there
-- net:start("lua5.4 device.lua")
-- net:lose(100)
local socket = require "socket"

local network = {}

local Network = {}
Network.__index = Network

network.SERVER, network.OTHER_SERVER = "10.77.0.1", "10.77.0.2"
network.NAME_SERVER = "10.77.0.53" -- at the server's end, too
network.DEVICE, network.OTHER_DEVICE = "10.77.0.11", "10.77.0.12"
network.NAME = "server.test" -- resolves to whatever `name` told last

-- As root of namespaces of its own; its processes end with the first of them, and that with whoever started it.
local NAMESPACES = "unshare --map-root-user --net --pid --mount --mount-proc --fork --kill-child"

local function succeeds(command)
  return (os.execute(command .. " >/dev/null 2>&1"))
end

--- Why there can be no network here; nil when there can.
function network.missing()
  for _, program in ipairs { "unshare", "nsenter", "ip", "nft" } do
    if not succeeds("command -v " .. program) then return program .. " is not installed" end
  end
  if not succeeds(NAMESPACES .. " true") then return "namespaces are not allowed here" end
  if not succeeds(NAMESPACES .. " ip link add server type veth peer name device") then
    return "the kernel has no veth"
  end
  if not succeeds(NAMESPACES .. " nft add table inet cable") then return "the kernel has no nftables" end
end

--- Runs a script in namespaces of its own.
-- @tparam string script its file
-- @tparam string argument
-- @treturn file what it prints; `close` waits for its end and tells how it was
function network.run(script, argument)
  return assert(io.popen(("exec timeout 600 %s lua5.4 %s %s 2>&1"):format(NAMESPACES, script, argument)))
end

local function sh(command, ...)
  command = command:format(...)
  if not os.execute(command) then error("cannot: " .. command, 2) end
end

local function read(command, ...)
  local process <close> = io.popen(command:format(...))
  return process:read "l"
end

function Network:in_device(command, ...)
  sh("nsenter --target %s --net --mount " .. command, self.holder, ...)
end

-- A name server that knows one name, and reads its address from a file for every question.
local NAME_SERVER = [[
  local server = require "socket".udp()
  assert(server:setsockname("%s", 53))
  while true do
    local question, from, port = server:receivefrom()
    local file = io.open("%s")
    local address = file:read "l"
    file:close()
    local name_end = question:find("\0", 13, true)
    local kind = string.unpack(">I2", question, name_end + 1)
    local answers = kind == 1 and 1 or 0
    local answer = question:sub(1, 2) .. string.pack(">I2I2I2I2I2", 0x8580, 1, answers, 0, 0)
      .. question:sub(13, name_end + 4)
    if answers == 1 then
      answer = answer .. string.pack(">I2I2I2I4I2", 0xC00C, 1, 1, 1, 4)
        .. address:gsub("(%%d+)%%.?", function(byte) return string.char(byte) end)
    end
    server:sendto(answer, from, port)
  end
]]

-- A child keeps no pipe of this process open: who reads or writes there would wait for the child, too.
local CLOSED = "3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &"

local function start_name_server(self)
  local script = self.folder .. "/names.lua"
  local file = assert(io.open(script, "w"))
  file:write((NAME_SERVER:format(network.NAME_SERVER, self.folder .. "/address")))
  file:close()
  self.names = read("lua5.4 %s >/dev/null %s echo $!", script, CLOSED)
end

--- Lays the cable.
function network.new()
  local self = setmetatable({ folder = "/mnt" }, Network)
  sh "mount -t tmpfs none /mnt" -- seen in these namespaces only
  sh "ip link set lo up && ip link add server type veth peer name device"
  self.holder = read "unshare --net --mount sleep 1000 >/dev/null & echo $!"
  local deadline = socket.gettime() + 10
  while read("readlink /proc/%s/ns/net", self.holder) == read "readlink /proc/self/ns/net" do
    assert(socket.gettime() < deadline, "no namespace")
    socket.sleep(0.02)
  end
  sh("ip link set device netns %s", self.holder)
  sh("ip address add %s/32 dev lo && ip link set server up", network.NAME_SERVER)
  sh("ip address add %s/24 dev server", network.SERVER)
  self:in_device "ip link set lo up"
  self:in_device("ip address add %s/24 dev device", network.DEVICE)
  self:in_device "ip link set device up"
  sh("echo nameserver %s >%s/resolv.conf", network.NAME_SERVER, self.folder)
  self:in_device("mount --bind %s/resolv.conf /etc/resolv.conf", self.folder)
  self:name(network.SERVER)
  start_name_server(self)
  return self
end

--- Starts a program on the device's side, with what it says in a file.
-- @treturn string the file
function Network:start(program)
  local log = self.folder .. "/device"
  -- By its path: this process's own folder has none there, for which glibc 2.41's loader waits for ever.
  sh("nsenter --target %s --net --mount --wdns=\"$PWD\" %s >%s 2>&1 %s", self.holder, program, log, CLOSED)
  return log
end

--- Pulls or plugs an end of the cable: "device" or "server".
function Network:plug(side, is_in)
  local command = "ip link set " .. side .. (is_in and " up" or " down")
  if side == "device" then self:in_device(command) else sh(command) end
end

--- Lets so many of a hundred packets get lost, each way, without a word.
function Network:lose(percent)
  local rules = self.folder .. "/rules"
  local file = assert(io.open(rules, "w"))
  file:write("table inet cable\ndelete table inet cable\n")
  if percent > 0 then
    local some = percent < 100 and ("numgen random mod 100 < %d"):format(percent) or ""
    file:write("table inet cable {\nchain input {\ntype filter hook input priority 0\n",
      "iif != lo ", some, " drop\n}\n}\n")
  end
  file:close()
  sh("nft -f %s", rules)
  self:in_device("nft -f %s", rules)
end

--- Changes an address: "device" or "server", from one to another.
function Network:move(side, from, to)
  local command = ("sh -c 'ip address delete %s/24 dev %s && ip address add %s/24 dev %s'"):format(from, side, to, side)
  if side == "device" then self:in_device(command) else sh(command) end
end

--- Says what address the name has.
function Network:name(address)
  sh("echo %s >%s/address", address, self.folder)
end

--- Lets the name server answer, or be silent.
function Network:serve_names(on)
  sh("kill -%s %s", on and "CONT" or "STOP", self.names)
end

return network
