import { quote } from "../shells/quote.ts";

/** Where small results go on the beamline file system. */
export interface CopyBack {
  /** The session's folder there, as the node mounts it: nothing is written outside. */
  root: string;
  /** The folder below it. */
  folder: string;
  /** The session's folder as the beamline sees it. */
  view: string;
  /** The name of the session's metadata file, which its folder alone has; null: it has none. */
  metadataFile: string | null;
  maxBytes: number;
  maxFiles: number;
}

/**
 * Copies the results of a program that has succeeded, and prints those that it has copied. A file on the beamline file
 * system is written over only if it is the one that was copied there last: its size, time and inode are kept. It comes by
 * rename, whole or not at all.
 */
export function copyBack({ root, folder, view, metadataFile, maxBytes, maxFiles }: CopyBack): string {
  return `
root=${quote(root)} folder=${quote(folder)} view=${quote(view)} metadata=${quote(metadataFile ?? ".")}
copies=\${directory%/*}/.copies
copied_back() {
  [ "$code" = 0 ] || { with_sizes; return; }
  export root folder view metadata copies results job
  xargs -0 -r -s 1800000 sh -c '
    bytes=0 files=0 more=
    not_copied() { echo "mento: not copied to the beamline: $one: $1" >&2; }
    look() { stat -c "%s %y %i" "$1"; }
    is_inside() {
      case $(readlink -m "$1")/ in
        "$(readlink -f "$root")"/*) ;;
        *) not_copied "$folder leads out of the beamtime"; return 1 ;;
      esac
    }
    copy() {
      [ -e "$root/$metadata" ] || { not_copied "the session is not the one that is open at the beamline"; return; }
      inside=\${one#"$results"/}
      [ "$inside" != "$one" ] || { not_copied "it is not in the results folder"; return; }
      [ $((bytes + size)) -le ${maxBytes} ] || { not_copied "more than ${maxBytes} bytes in all"; return; }
      [ $files -lt ${maxFiles} ] || {
        [ -n "$more" ] || not_copied "more than ${maxFiles} files, and so it is with those behind it"
        more=yes
        return
      }
      target=$root/$folder/$inside
      # A link may be there before, or come meanwhile: what is written is written into the folder that was looked at.
      is_inside "\${target%/*}" && mkdir -p "\${target%/*}" && cd -P "\${target%/*}" && is_inside . || return
      known=$copies/$(printf %s "$target" | sha256sum | cut -c -32)
      name=\${target##*/}
      # Whoever owns the folder can put another in place of ours: what is written goes into one that is ours alone.
      private=$(mktemp -d "./.mento-$job.XXXXXXXX") && (
        cd -P "$private" && [ -O . ] || exit
        case $(stat -c %a .) in *700) cp -- "$one" part ;; *) exit 1 ;; esac
      ) || {
        rm -rf "$private"
        not_copied "$target could not be written"
        return
      }
      if [ -f "$known" ] && [ "$(look "./$name" 2>/dev/null)" = "$(cat "$known")" ]; then
        mv -fT -- "$private/part" "./$name"
      else
        mv -nT -- "$private/part" "./$name"
      fi
      rmdir "$private" 2>/dev/null || { rm -rf "$private"; not_copied "$target is there, and not ours"; return; }
      mkdir -p "$copies" && [ ! -L "$copies" ] && [ -O "$copies" ] && look "./$name" > "$known"
      bytes=$((bytes + size)) files=$((files + 1))
      printf "copied=%s\\\\0" "$view/$folder/$inside"
    }
    for one; do
      size=$(stat -L -c %s "$one") || continue
      printf "result=%s %s\\\\0" "$size" "$one"
      copy
    done' sh
}`;
}
