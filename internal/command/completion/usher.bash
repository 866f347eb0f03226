# Completion of usher for bash: source <(usher completion bash)
# The program itself says what may follow, so that this need not change with it.
_usher() {
    local line=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[^=:@]/} prefix= word
    local -a words
    IFS=$' \t\n' read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[${#words[@]} - 1]}
    # Bash replaces no more than what stands behind the last of its word breaks.
    [[ -n $breaks ]] && prefix=${current%"${current##*["$breaks"]}"}
    COMPREPLY=()
    while IFS= read -r word; do
        if [[ $word == :files ]]; then
            compopt -o default 2>/dev/null
            return
        fi
        word=${word%%$'\t'*}
        COMPREPLY+=("${word#"$prefix"}")
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _usher usher
