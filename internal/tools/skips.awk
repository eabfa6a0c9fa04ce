# Groups the skipped tests in the summary of gotestsum by the reason of the skip:
# one missing server, or one feature that a store doesn't have, skips dozens.
/^=== SKIP: / { test = $3 " " $4; reason = "no reason given"; next }
test != "" && NF { sub(/^ *[^ ]*:[0-9]+: /, ""); reason = $0; next }
test != "" {
	if (!count[reason]++) { order[++n] = reason; first[reason] = test }
	test = ""
	next
}
/^(===|DONE) / && n {
	for (i = 1; i <= n; i++)
		printf("    %s\n        %s%s\n", order[i], first[order[i]], (count[order[i]] > 1) ? " and " count[order[i]] - 1 " more" : "")
	print ""
	n = 0
}
{ print; fflush() }
