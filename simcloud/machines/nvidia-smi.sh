#!/bin/sh
# nvidia-smi of a simulated machine. What its GPUs do follows what runs in the machine: every busy
# core of a process that is neither sshd nor a shell is one busy GPU, resident memory is GPU memory.
# Reads `housekeeping.txt` (commands that are no GPU work), `gpus` (index|name|memory MiB|uuid|bus|driver|cuda|power limit|compute capability) and, if
# present, `override` (utilization percent, memory MiB) next to itself.
set -eu
here=$(dirname "$(readlink -f "$0")")
gpus="$here/gpus"
root=0
[ ! -e "$here/root_pid" ] || root=$(cat "$here/root_pid")

fail() { echo "$1"; exit "${2:-2}"; }
[ -s "$gpus" ] || fail "No devices were found" 6

mode=table query= apps= only= format= loop=
while [ $# -gt 0 ]; do
    case "$1" in
        --query-gpu=*) mode=query; query=${1#*=} ;;
        --query-gpu) mode=query; shift; query=${1:-} ;;
        --query-compute-apps=*) mode=apps; apps=${1#*=} ;;
        --format=*) format=${1#*=} ;;
        --format) shift; format=${1:-} ;;
        -i|--id) shift; only=${1:-} ;;
        -i=*|--id=*) only=${1#*=} ;;
        -L|--list-gpus) mode=list ;;
        -l|--loop) shift; loop=${1:-5} ;;
        -l=*|--loop=*) loop=${1#*=} ;;
        -lms|--loop-ms) shift; loop=$(awk "BEGIN{print ${1:-1000}/1000}") ;;
        -lms=*|--loop-ms=*) loop=$(awk "BEGIN{print ${1#*=}/1000}") ;;
        -h|--help) echo "NVIDIA System Management Interface (simulated)"; exit 0 ;;
        *) fail "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help." ;;
    esac
    shift
done
case "$mode:$format" in
    query:|apps:) fail 'Option "--format=" is not specified. Please run nvidia-smi -h for help.' ;;
esac

sample() { cat /proc/[0-9]*/stat 2>/dev/null || :; }

report() {
    { sample; echo MARK; sleep 0.2; sample; } | awk -v gpus="$gpus" -v override="$here/override" \
        -v mode="$mode" -v query="$query" -v apps="$apps" -v only="$only" -v format="$format" \
        -v now="$(date '+%Y/%m/%d %H:%M:%S.000')" -v root="$root" -v housekeeping_file="$here/housekeeping.txt" '
    BEGIN {
        while ((getline name < housekeeping_file) > 0) housekeeping[name] = 1
    }
    $0 == "MARK" { second = 1; next }
    {
        close_at = 0
        for (i = length($0); i > 0; i--) if (substr($0, i, 1) == ")") { close_at = i; break }
        open_at = index($0, "(")
        command = substr($0, open_at + 1, close_at - open_at - 1)
        pid = substr($0, 1, open_at - 2)
        split(substr($0, close_at + 2), f, " ")
        ticks = f[12] + f[13]
        if (!second) { before[pid] = ticks; next }
        parent[pid] = f[2]
        if (command in housekeeping) next
        work[pid] = command
        busy[pid] = (pid in before) ? ticks - before[pid] : 0
        held[pid] = f[22] * 4096 / 1048576
    }
    function below(p) {
        if (root == 0) return 1
        while (p in parent) { if (p == root) return 1; p = parent[p] }
        return 0
    }
    function floor0(x) { return x < 0 ? 0 : int(x + 0.5) }
    function unit(value, name) { return nounits ? value : value " " name }
    function field(g, name) {
        if (name == "index") return g
        if (name == "count") return count
        if (name == "name" || name == "gpu_name") return gname[g]
        if (name == "uuid" || name == "gpu_uuid") return uuid[g]
        if (name == "pci.bus_id" || name == "gpu_bus_id") return bus[g]
        if (name == "driver_version") return driver[g]
        if (name == "memory.total") return unit(total[g], "MiB")
        if (name == "memory.used") return unit(used[g], "MiB")
        if (name == "memory.free") return unit(total[g] - used[g], "MiB")
        if (name == "memory.reserved") return unit(0, "MiB")
        if (name == "utilization.gpu") return unit(util[g], "%")
        if (name == "utilization.memory") return unit(int(util[g] * 0.6), "%")
        if (name == "temperature.gpu") return temp[g]
        if (name == "power.draw" || name == "power.draw.instant") return unit(power[g], "W")
        if (name == "power.limit" || name == "power.max_limit") return unit(limit[g] ".00", "W")
        if (name == "fan.speed") return unit(30 + int(util[g] / 2), "%")
        if (name == "pstate") return util[g] > 0 ? "P2" : "P8"
        if (name == "compute_cap") return cap[g]
        if (name == "timestamp") return now
        if (name == "display_active") return "Disabled"
        if (name == "persistence_mode") return "Enabled"
        if (name == "compute_mode") return "Default"
        if (name == "mig.mode.current" || name == "ecc.mode.current") return "[N/A]"
        if (name ~ /^clocks\./) return unit(util[g] > 0 ? 2520 : 210, "MHz")
        if (name == "pcie.link.gen.current" || name == "pcie.link.gen.max") return 4
        if (name == "pcie.link.width.current" || name == "pcie.link.width.max") return 16
        print "Field \"" name "\" is not a valid field to query."
        failed = 2
        exit 2
    }
    function header(name) {
        if (name ~ /^memory\./) return name " [MiB]"
        if (name ~ /^utilization\./ || name == "fan.speed") return name " [%]"
        if (name ~ /^power\./) return name " [W]"
        if (name ~ /^clocks\./) return name " [MHz]"
        return name
    }
    END {
        if (failed) exit failed
        nounits = (format ~ /nounits/); noheader = (format ~ /noheader/)
        for (pid in work) if (below(pid)) { cores += busy[pid] / 20; mem += held[pid] } else delete work[pid]
        while ((getline line < gpus) > 0) {
            split(line, v, "|"); g = v[1]; count++
            gname[g] = v[2]; total[g] = v[3]; uuid[g] = v[4]; bus[g] = v[5]
            driver[g] = v[6]; cuda[g] = v[7]; limit[g] = v[8]; cap[g] = v[9]
        }
        forced = ((getline line < override) > 0)
        if (forced) split(line, o, " ")
        for (g = 0; g < count; g++) {
            share = cores - g; if (share > 1) share = 1
            util[g] = floor0(100 * share)
            used[g] = 1 + floor0(mem / count); 
            if (forced) { util[g] = o[1]; if (o[2] != "") used[g] = o[2] }
            if (used[g] > total[g]) used[g] = total[g]
            temp[g] = 34 + int(util[g] * 0.4)
            power[g] = sprintf("%.2f", 18 + (limit[g] - 18) * util[g] / 100 * 0.9)
        }
        if (mode == "list") {
            for (g = 0; g < count; g++) print "GPU " g ": " gname[g] " (UUID: " uuid[g] ")"
            exit 0
        }
        if (mode == "query") {
            n = split(query, fields, /, */)
            line = ""
            for (k = 1; k <= n; k++) line = line (k > 1 ? ", " : "") header(fields[k])
            out = noheader ? "" : line "\n"
            for (g = 0; g < count; g++) {
                if (only != "" && only != g && only != uuid[g]) continue
                line = ""
                for (k = 1; k <= n; k++) line = line (k > 1 ? ", " : "") field(g, fields[k])
                out = out line "\n"
            }
            printf "%s", out
            exit 0
        }
        if (mode == "apps") {
            n = split(apps, fields, /, */)
            if (!noheader) { gsub(/used_memory|used_gpu_memory/, "& [MiB]", apps); print apps }
            for (pid in work) {
                line = ""
                for (k = 1; k <= n; k++) {
                    x = fields[k]
                    value = "[N/A]"
                    if (x == "pid") value = pid
                    if (x == "process_name" || x == "name") value = work[pid]
                    if (x ~ /^used/) value = unit(floor0(held[pid]), "MiB")
                    if (x == "gpu_uuid") value = uuid[0]
                    if (x == "gpu_name") value = gname[0]
                    line = line (k > 1 ? ", " : "") value
                }
                print line
            }
            exit 0
        }
        bar = "+-----------------------------------------------------------------------------------------+"
        print now
        print bar
        printf "| NVIDIA-SMI %-22s Driver Version: %-14s CUDA Version: %-9s |\n", driver[0], driver[0], cuda[0]
        print "|-----------------------------------------+------------------------+----------------------|"
        print "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |"
        print "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |"
        print "|=========================================+========================+======================|"
        for (g = 0; g < count; g++) {
            printf "| %3d  %-26s     On | %-18s Off |                  Off |\n", g, substr(gname[g], 1, 26), bus[g]
            printf "|%3d%%  %3dC    %-3s          %5dW / %4dW | %7dMiB / %7dMiB | %6d%%      Default |\n", \
                30 + int(util[g] / 2), temp[g], (util[g] > 0 ? "P2" : "P8"), power[g], limit[g], used[g], total[g], util[g]
            print "+-----------------------------------------+------------------------+----------------------+"
        }
    }'
}

[ -n "$loop" ] || { report; exit $?; }
while :; do
    report
    sleep "$loop"
done
