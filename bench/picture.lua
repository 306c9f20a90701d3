--- Draws what `make bench` has measured: `lua picture.lua FOLDER PICTURE.svg` reads FOLDER/*.figures, see `figure` of
-- support.lua. Each bar is a cost in multiples of the limit's, which is the line at 1.
local ORDER = { "post", "flight", "outbox", "firmware" }
local WIDTH, LEFT, TOP, ROW, MOST = 760, 230, 62, 20, 3 -- pixels; bars longer than MOST times the limit are cut off
local SCALE = (WIDTH - LEFT - 70) / MOST

local folder, target = arg[1], arg[2]

local groups, rows = {}, 0
for _, name in ipairs(ORDER) do
  local file <close> = io.open(("%s/%s.figures"):format(folder, name))
  for line in file and file:lines() or function() end do
    local title, label, value = line:match "^(.-)\t(.-)\t(.-)\t"
    local group = groups[#groups]
    if not group or group.title ~= title then
      group = { title = title }
      groups[#groups + 1] = group
    end
    group[#group + 1] = { label = label, value = tonumber(value), class = line:match "ours$" or "peer" }
    rows = rows + 1
  end
end
if rows == 0 then return end

local height = TOP + #groups * (ROW + 12) + rows * ROW + 8
local out = {}
local function add(form, ...) out[#out + 1] = form:format(...) end
local function text(x, y, class, words)
  words = words:gsub("[<&]", { ["<"] = "&lt;", ["&"] = "&amp;" })
  add('<text x="%.0f" y="%.0f" class="%s">%s</text>', x, y, class, words)
end

add('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">', WIDTH, height,
  WIDTH, height)
add "<title>What posts, puts and downloads cost, in multiples of the limit</title>"
add [[<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 } .group { font-weight: 600 } .label { text-anchor: end }
.page { fill: #ffffff } .ours { fill: #1a7f37 } .peer { fill: #8c959f } .limit { stroke: #cf222e; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .page { fill: #0d1117 } .ours { fill: #3fb950 } .peer { fill: #6e7681 }
  .limit { stroke: #ff7b72 }
}
</style>]]
add('<rect class="page" width="%d" height="%d" rx="8"/>', WIDTH, height)
text(16, 28, "title", "Costs, in multiples of the limit (the line): shorter is better")
text(16, 48, "", "Green is this module, grey are its peers. The limit of each group stands behind its colon.")
local y = TOP
for _, group in ipairs(groups) do
  y = y + ROW + 12
  text(16, y - 8, "group", group.title)
  local from = y - 2
  for _, row in ipairs(group) do
    text(LEFT - 8, y + 14, "label", row.label)
    add('<rect class="%s" x="%d" y="%.0f" width="%.1f" height="14"/>', row.class, LEFT, y + 3,
      math.min(row.value, MOST) * SCALE)
    local least = row.value > 0.7 and 1 or 0 -- not across the line
    text(LEFT + math.max(least, math.min(row.value, MOST)) * SCALE + 6, y + 14, "", ("%.2f"):format(row.value)
      .. (row.value > MOST and " \u{2192}" or ""))
    y = y + ROW
  end
  add('<line class="limit" x1="%.1f" y1="%.0f" x2="%.1f" y2="%.0f"/>', LEFT + SCALE, from, LEFT + SCALE, y + 2)
end
add "</svg>"
local file <close> = assert(io.open(target, "w"))
file:write(table.concat(out, "\n"), "\n")
