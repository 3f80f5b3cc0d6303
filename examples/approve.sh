#!/usr/bin/env bash
# Say something to the model, and yes or no to each call that waits for a person.
#   .venv/bin/legato serve examples/notes.py
#   examples/approve.sh "Delete the note called old."
# URL is the server, LEGATO the command. Needs curl and python3.
set -euo pipefail
url=${URL:-http://127.0.0.1:8420}
legato=${LEGATO:-.venv/bin/legato}
turn="shell-$$-$RANDOM"

body=$(python3 -c 'import json, sys; print(json.dumps({"turn_id": sys.argv[1], "input": sys.argv[2]}))' "$turn" "$*")
curl -sS --fail-with-body -o /dev/null -H 'content-type: application/json' -d "$body" "$url/v1/turns"

exec 3<&0 # the person's own input, inside the loop
"$legato" tail --json --url "$url" "$turn" | while read -r event; do
  case $event in
    '{"type":"call_waiting"'*'"kind":"approval"'*)
      call=$(sed -E 's/.*"call_id":"([^"]+)".*/\1/' <<<"$event")
      "$legato" show --url "$url" "$turn" 2>/dev/null | sed -n "s/^waits   for a yes or no to \(.*\): legato approve [^ ]* $call\( --url .*\)\{0,1\}\$/run \1? [y\/N]/p"
      read -r yes <&3 || yes=
      if [ "$yes" = y ]; then "$legato" approve --url "$url" "$turn" "$call"
      else "$legato" approve --url "$url" "$turn" "$call" --deny --reason "${yes:-a person said no}"; fi ;;
  esac
done
"$legato" show --url "$url" "$turn" 2>/dev/null
