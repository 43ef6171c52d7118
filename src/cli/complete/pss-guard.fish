# Completions of pss-guard for fish 3 and newer.
function __pss_guard_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    set -e words[1]
    set -lx PATH $PATH /usr/local/sbin /usr/sbin
    set -l answer (command pss-guard __complete -- $words "$current" 2>/dev/null)
    set -l kind "$answer[1]"
    set -e answer[1]
    # A path behind `--option=` is completed without it.
    set -l option (string match --regex '^--[^=]*=' -- "$current")
    set -l path (string replace --regex '^--[^=]*=' '' -- "$current")
    switch $kind
        case files
            set answer "$option"(__fish_complete_path "$path")
        case folders
            set answer "$option"(__fish_complete_directories "$path" '')
    end
    string join \n -- $answer
end
complete --command pss-guard --no-files --arguments '(__pss_guard_complete)'
