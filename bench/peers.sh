#!/bin/sh
# Gets the engines that Tunnel is compared with (`make bench-peers`), each with the
# ordinary client of its registry. What is there already stays; `--update` renews it.
# None of them becomes a part of Tunnel: they are run beside it.
set -u

PATH=$PATH:/usr/local/go/bin:${GOPATH:-$HOME/go}/bin:$HOME/.cargo/bin
UPDATE=${1:-}
FAILED=0

say() { printf '%s\n' "$*" >&2; }

# get PROGRAM TOOL COMMAND...: runs the command unless PROGRAM is there
get() {
    program=$1 tool=$2
    shift 2
    if [ "$UPDATE" != --update ] && command -v "$program" >/dev/null 2>&1; then
        say "$program: $(command -v "$program")"
    elif ! command -v "$tool" >/dev/null 2>&1; then
        say "$program: needs $tool; then: $*"
        FAILED=1
    else
        say "$program: $*"
        "$@" || FAILED=1
    fi
}

get wireguard go go install golang.zx2c4.com/wireguard@latest
get gotatun cargo cargo install --locked gotatun-cli
get boringtun-cli cargo cargo install --locked boringtun-cli
get wireguard-go apt-get apt-get install -y --no-install-recommends wireguard-go
exit $FAILED
