#compdef usher
# Completion of usher for zsh: source <(usher completion zsh), or a file _usher in a folder of fpath.
# The program itself says what may follow, so that this need not change with it.
_usher() {
    local line word text
    local -a described
    for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -z $line ]] && continue
        if [[ $line == :files ]]; then
            _files
            return
        fi
        word=${line%%$'\t'*} text=${line#*$'\t'}
        described+=("${word//:/\\:}${text:+:$text}")
    done
    (( $#described )) && _describe -t usher usher described
}
if [[ $funcstack[1] == _usher ]]; then
    _usher "$@"
else
    compdef _usher usher
fi
