/* Changing the voters: one configuration is stopped by a head that is chosen in it, the next one begins with that head.
 *
 * Abstract: every acceptor is a register that changes in one step (chain.pml shows that a chain is one). Configuration 1 has
 * PROPOSERS proposers, of which proposer 0 wants to stop it; configuration 2 has 2. A head is a number; `parent` is what it
 * was built on. Whoever finds a head with a stop proposes the same head again. Any number of hosts finish the switch.
 *
 * Must hold: of any two heads that were chosen, in whichever configuration, one extends the other; no register of
 * configuration 2 begins before the stop is chosen; nothing is deleted that is not sealed. See models/README.md.
 */

#ifndef PROPOSERS
#define PROPOSERS 3            /* in configuration 1 */
#endif
#define NEXT 2                 /* in configuration 2 */
#define TASKS (PROPOSERS + NEXT)
#define SITES 3                /* voters of each configuration */
#define QUORUM 2
#define FIRST 1                /* the founding head, and the ballot of whatever begins a configuration */
#define STOP 2                 /* the head that proposer 0 makes on top of what it finds */
#define HEADS (2 + TASKS)
#define own_head(p) (2 + (p))
#define config_of(p) ((p) < PROPOSERS -> 0 : 1)
#define ballot_of(p) (2 + (p))
#define at(c, s) ((c) * SITES + (s))
#define bit_of(s) (1 << (s))
#define count_of(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1))

#ifdef STRICT
#define strictly(x) assert(x)
#else
#define strictly(x) skip
#endif

#define PREPARES 0
#define ACCEPTS 1

/* registers of both configurations; promised 0 is absent */
byte promised[2 * SITES];
byte accepted[2 * SITES];
byte value[2 * SITES];
bit sealed[SITES];             /* configuration 1 only */

byte parent[HEADS];
byte phase[TASKS];
byte counted[TASKS];
byte highest[TASKS];
byte offered[TASKS];           /* the head: what was found, and then what is proposed */

byte holders[HEADS];           /* ghost, by ballot: where its acceptance took effect */
byte chosen;                   /* ghost: heads */

inline choose(n) {
  d_step {
    o = 1;
    chosen = chosen | (1 << n);
    do
    :: o < HEADS ->
       if
       :: o != n && (chosen >> o) & 1 ->
          h = o; do :: h != n && h != 0 -> h = parent[h] :: else -> break od;
          l = n; do :: l != o && l != 0 -> l = parent[l] :: else -> break od;
          assert(h == n || l == o)
       :: else
       fi;
       o++
    :: else -> break
    od;
    o = 0; h = 0; l = 0
  }
}

proctype Task(byte p) {
end:
  atomic {
    count_of(counted[p]) >= QUORUM ->
    highest[p] = 0; counted[p] = 0; phase[p] = ACCEPTS;
    if
#ifndef BUILDS_ON_A_STOP
    :: offered[p] == STOP && config_of(p) == 0 -> printf("%d offers head %d again\n", p, STOP)  /* commit._value_on, ends */
#endif
    :: else ->
       parent[own_head(p)] = offered[p];
       offered[p] = own_head(p);
       printf("%d offers head %d, built on %d\n", p, offered[p], parent[offered[p]])
    fi
  }
}

#define R at(config_of(p), s)
#define seen (config_of(p) == 1 || !sealed[s])

proctype At(byte p, s) {
  byte o, h, l;
end:
  do
  :: atomic {
       phase[p] == PREPARES && !(counted[p] & bit_of(s)) && seen && promised[R] != 0 && ballot_of(p) > promised[R] ->
       promised[R] = ballot_of(p);
       printf("configuration %d, site %d promises %d\n", config_of(p) + 1, s, ballot_of(p));
       if
       :: accepted[R] >= highest[p] ->
          highest[p] = accepted[R];
          offered[p] = value[R]
       :: else
       fi;
       counted[p] = counted[p] | bit_of(s)
     }
  :: atomic {
       phase[p] == ACCEPTS && promised[R] != 0 && ballot_of(p) >= promised[R] ->
       promised[R] = ballot_of(p); accepted[R] = ballot_of(p); value[R] = offered[p];
       printf("configuration %d, site %d accepts head %d under %d\n", config_of(p) + 1, s, offered[p], ballot_of(p));
       holders[ballot_of(p)] = holders[ballot_of(p)] | bit_of(s);
       if
       :: count_of(holders[ballot_of(p)]) == QUORUM ->
          printf("  head %d is chosen\n", offered[p]);
          choose(offered[p])
       :: else
       fi;
       break
     }
  od
}

/* switching.finish_switch, by any number of hosts: begin, at absent voters, until a quorum has begun; then seal, then delete */
#define begun(s) (promised[at(1, s)] != 0)
#define stands (begun(0) + begun(1) + begun(2) >= QUORUM)
#ifdef UNCONFIRMED_STOP
#define is_stopped (value[0] == STOP || value[1] == STOP || value[2] == STOP)
#else
#define is_stopped ((chosen >> STOP) & 1)
#endif

proctype Finish(byte s) {
end:
  do
  :: atomic {
       is_stopped && !begun(s) && !stands ->
       strictly((chosen >> STOP) & 1);
       promised[at(1, s)] = FIRST; accepted[at(1, s)] = FIRST; value[at(1, s)] = STOP;
       printf("configuration 2, site %d begins with head %d\n", s, STOP)
     }
  :: atomic { stands && !sealed[s] -> sealed[s] = 1; printf("configuration 1, site %d is sealed\n", s) }
  :: atomic {
       sealed[s] && promised[s] != 0 ->
       promised[s] = 0; accepted[s] = 0; value[s] = 0;
       printf("configuration 1, site %d is cleared\n", s)
     }
  od
}

init {
  byte p, s;
  atomic {
    chosen = 1 << FIRST;
    for (s : 0 .. SITES - 1) {
      promised[s] = FIRST; accepted[s] = FIRST; value[s] = FIRST;
      run Finish(s)
    }
    for (p : 0 .. TASKS - 1) {
      run Task(p);
      for (s : 0 .. SITES - 1) { run At(p, s) }
    }
    p = 0; s = 0
  }
}
