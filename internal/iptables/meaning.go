package iptables

import "usher/proxy/rules"

// CheckMeaning refuses a rule that usher can make nothing of, with the reason: it is Options.Check of a running usher.
// What rules of nat come to together is for package nat.
func CheckMeaning(table, chain string, r *Rule) error {
	if err := meaning(table, chain, r); err != nil {
		return err.at(0)
	}
	return nil
}

func meaning(table, chain string, r *Rule) *Error {
	if reason, known := meaningless[table][chain]; known {
		return refusal("chain `%s' of table %s has no meaning here", chain, table).advise("%s", reason)
	}
	switch table {
	case "filter":
		return r.checkFront()
	case "raw":
		return refusal("table `raw' has no meaning here").advise("%s", refusedTables["raw"])
	}
	if r.Protocol != rules.All && r.Protocol != rules.TCP && r.Protocol != rules.UDP && !r.NotProtocol {
		return refusal("protocol %s has no meaning here", protocolName(r.Protocol)).advise("%s", carries)
	}
	for _, m := range r.Matches {
		if o, isOther := m.(*Other); isOther {
			return refusal("match `%s' has no meaning here", o.Name).advise("%s", refusedMatches[o.Name])
		}
	}
	if _, isOther := r.Options.(*Other); isOther {
		return refusal("target %s has no meaning here", r.Target).advise("%s", refusedTargets[r.Target])
	}
	switch r.Target {
	case "DROP", "REJECT", "LOG":
		return refusal("target %s has no meaning in table %s", r.Target, table).advise("INPUT of table filter judges new flows")
	}
	return nil
}

// meaningless are the built-in chains that nothing comes to, by their table, with the reason.
var meaningless = map[string]map[string]string{
	"filter": {"FORWARD": forwards, "OUTPUT": toBackends},
	"nat":    {"INPUT": "POSTROUTING has the source address of connections to backends"},
	"mangle": {"INPUT": ofMarks, "FORWARD": ofMarks, "POSTROUTING": ofMarks},
	"raw":    {"PREROUTING": knowsFlows, "OUTPUT": knowsFlows},
}

const (
	toBackends = "usher's own connections go to backends alone"
	ofMarks    = "PREROUTING and OUTPUT have the marks of ipvsadm -f"
	knowsFlows = "usher knows all of its flows"
)

// CheckPolicyMeaning refuses a policy that decides nothing: it is Options.CheckPolicy of a running usher.
func CheckPolicyMeaning(table, chain, policy string) error {
	if policy == "ACCEPT" || table == "filter" && chain == rules.Input {
		return nil
	}
	return refusal("a policy of chain `%s' of table %s has no meaning here", chain, table).
		advise("new flows are judged in INPUT of table filter").at(0)
}
