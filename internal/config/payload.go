package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// maxPayload is what the largest datagram over IPv4 carries.
const maxPayload = 65507

// parsePayload reads bytes: hex:DIGITS, or text in which \r \n \t \\ \, and \xNN stand for one byte each.
func parsePayload(word string) (string, error) {
	payload, err := unescape(word)
	if digits, isHex := strings.CutPrefix(word, "hex:"); isHex {
		payload, err = unhex(digits)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("%#.80q: %w", word, err)
	case payload == "":
		return "", fmt.Errorf("%q is empty: leave it out", word)
	case len(payload) > maxPayload:
		return "", fmt.Errorf("%.20q… has %d bytes, more than the %d of a datagram", word, len(payload), maxPayload)
	}
	return payload, nil
}

func unhex(digits string) (string, error) {
	if len(digits)%2 != 0 {
		return "", errors.New("hex digits come in pairs")
	}
	bytes, err := hex.DecodeString(digits)
	if err != nil {
		return "", errors.New("not all of it is hex digits")
	}
	return string(bytes), nil
}

func unescape(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", errors.New(`nothing follows the last \`)
		}
		switch c := text[i]; c {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '\\', ',':
			b.WriteByte(c)
		case 'x':
			one, err := unhex(text[min(i+1, len(text)):min(i+3, len(text))])
			if err != nil || one == "" {
				return "", errors.New(`two hex digits must follow \x`)
			}
			b.WriteString(one)
			i += 2
		default:
			return "", fmt.Errorf(`there is no escape %#q (have \r \n \t \xNN \\ \,)`, text[i-1:i+1])
		}
	}
	return b.String(), nil
}

// formatPayload writes bytes as the word that parsePayload reads: as text where that is legible, in hex otherwise.
func formatPayload(payload string) string {
	legible := strings.IndexFunc(payload, func(r rune) bool {
		return (r < ' ' || r > '~') && !strings.ContainsRune("\r\n\t", r)
	}) < 0
	if !legible {
		return "hex:" + hex.EncodeToString([]byte(payload))
	}
	text := strings.NewReplacer("\r", `\r`, "\n", `\n`, "\t", `\t`, `\`, `\\`, ",", `\,`).Replace(payload)
	if rest, isHex := strings.CutPrefix(text, "hex:"); isHex {
		return `\x68ex:` + rest
	}
	return text
}
