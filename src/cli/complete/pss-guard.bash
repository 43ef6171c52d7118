# Completions of pss-guard for bash 4 and newer; bash-completion is not needed.
_pss_guard() {
    local word line glued='' words=() answer=()
    # Readline splits words at the letters in COMP_WORDBREAKS: put those together again.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
        if [[ ${#words[@]} -gt 0 && ($glued || $word == [:=]) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        [[ $word == [:=] ]] && glued=1 || glued=''
    done
    COMPREPLY=()
    mapfile -t answer < <(PATH=$PATH:/usr/local/sbin:/usr/sbin command pss-guard __complete -- "${words[@]}" 2>/dev/null)
    case ${answer[0]-} in
    files) compopt -o default 2>/dev/null ;;
    folders) compopt -o dirnames 2>/dev/null ;;
    words)
        # Readline replaces only the last part of a word that it has split.
        word=${COMP_WORDS[COMP_CWORD]}
        [[ $word == [:=] ]] && word=''
        local before=${words[-1]%"$word"}
        for line in "${answer[@]:1}"; do
            line=${line%%$'\t'*}
            COMPREPLY+=("${line#"$before"}")
        done
        ;;
    esac
}
complete -F _pss_guard pss-guard
