package command

const logsHelp = `Logs: what usher writes, and where

The log goes to stderr: for people on a terminal, elsewhere as JSON (--log-format). At start a terminal shows what
differs from the defaults; JSON has all settings. --log-level debug has them too, and for each flow why its backend was
chosen and how it ended. A reload changes the level. NO_COLOR turns colours off. usher goes on if the reader of its log
ends. Stdout stays empty. If stdout is a pipe and its reader ends, usher drains and exits, as in usher ... 2>&1 | head
-1. Where usher is to outlive the program that reads its log, that gets stderr alone:

  usher 8080=9001 2>&1 >/dev/null | logger

--access-log writes a line for each flow that has ended, --log-access web=true for those of one service. The fields:

  client, listener, backend     addresses; behind a PROXY header there is also the peer
  connect_ms, duration_ms       until the backend had accepted, and of the whole flow
  bytes_up, bytes_down          from the client to the backend, and back
  tries                         how many backends were tried
  end                           how the flow ended

  fin                           both sides have finished
  client-reset, backend-reset   that side has reset the connection
  client-lost, backend-lost     that side no longer answers
  idle, half-close, max-age     --idle-timeout or --udp-idle-timeout, --half-close-timeout, --max-age
  connect-failed, no-backend    no backend could be reached; none could be used
  backends-full, queue-full, queue-timeout
                                all backends have their max; the queue is full; the client has waited long enough
  max-conns, no-descriptors, no-local-port
                                there is no room (usher help limits)
  reclaimed, evicted            the flow made room for another
  drain, draining               usher was stopping: a connection ended, a datagram was not served
  backend-down, rebalanced, killed
                                --on-down and the like; usher rebalance; usher flows --kill
  aborted                       the client left while it waited (--abort-on-close)
  denied, rate-limited, client-limit, bad-proxy-header, no-sni, no-endpoint
                                the client was not let in (usher help access)
  replied, refused              of udp: --udp-replies have come; the backend does not listen
  max-flows, max-client-flows   of udp: the service, or the client, has as many flows as it may
  error                         anything else

The log has at most one line a second for each service and each reason of refusal. Metrics count all.
`
