# Completion of usher for fish: usher completion fish | source
# The program itself says what may follow, so that this need not change with it.
function __usher_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path "$current"
        return
    end
    printf '%s\n' $lines
end
complete -c usher -f -a '(__usher_complete)'
