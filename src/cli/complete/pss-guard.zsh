#compdef pss-guard
# Completions of pss-guard for zsh: in a folder of $fpath as _pss-guard, or by source after compinit.
_pss-guard() {
    local line
    local -a answer values
    answer=("${(@f)$(
        path+=(/usr/local/sbin /usr/sbin)
        command pss-guard __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null
    )}")
    case ${answer[1]} in
    files | folders)
        [[ $PREFIX == -*=* ]] && compset -P '*='
        if [[ ${answer[1]} == folders ]]; then _files -/; else _files; fi
        ;;
    words)
        for line in "${(@)answer[2,-1]}"; do
            values+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        done
        _describe value values
        ;;
    esac
}
if [[ $funcstack[1] == _pss-guard ]]; then
    _pss-guard "$@"
else
    compdef _pss-guard pss-guard
fi
