/* The manifest's Paxos: proposers, acceptors on chains of versions, late puts, collection.
 *
 * Ballots are 1 (the founding) and 2 + p for proposer p: one proposer is one round of one task, which may be started late,
 * stall for ever anywhere, and take any quorum. The value of a ballot is a head; all that matters of it is what it was
 * built on, `base[ballot]`: a head extends another if it can be reached along `base`.
 *
 * The first CHAINS sites are chains, one request a step, with puts that land whenever they like and collection by anybody.
 * The others are registers that change in one step, which is what chain.pml shows that a chain is, and what a swap is.
 *
 * Must hold: of any two heads that were chosen, or that somebody was told to be chosen, one extends the other; whoever
 * reads is told of all that was chosen before. With STRICT (the default of the run that must pass) every step on the way
 * is asserted too. Broken variants: see models/README.md.
 */

#ifndef PROPOSERS
#define PROPOSERS 3
#endif
#ifndef SITES
#define SITES 3
#endif
#ifndef CHAINS
#define CHAINS 1
#endif
#ifndef QUORUM
#define QUORUM 2
#endif
#ifndef REACH0                 /* which sites each proposer can reach: bits */
#define REACH0 7
#endif
#ifndef REACH1
#define REACH1 7
#endif
#ifndef REACH2
#define REACH2 7
#endif
#ifndef REACH3
#define REACH3 7
#endif

#ifndef DUPLICATES             /* puts that arrive twice */
#define DUPLICATES 0
#endif

#define BALLOTS (2 + PROPOSERS)
#define VERSIONS (3 + 2 * PROPOSERS)
#define RECORDS (2 + 2 * PROPOSERS)
#define FIRST 1                /* the founding record, and the founding ballot */
#define ballot_of(p) ((p) + 2)
#define promise_of(p) (2 + 2 * (p))
#define accept_of(p) (3 + 2 * (p))
#define bit_of(s) (1 << (s))
#define count_of(x) (((x) & 1) + (((x) >> 1) & 1) + (((x) >> 2) & 1) + (((x) >> 3) & 1) + (((x) >> 4) & 1))

#ifdef NO_PROMISE_CHECK
#define may_accept(b, promise) true
#else
#define may_accept(b, promise) ((b) >= (promise))  /* paxos.accept */
#endif

#ifdef STRICT
#define strictly(x) assert(x)
#else
#define strictly(x) skip
#endif

#define PREPARES 0
#define ACCEPTS 1

#define WAITS 0
#define OK 1
#define REFUSED 2
#define OVER 3

byte base[BALLOTS];            /* what the value of each ballot was built on */
byte phase[PROPOSERS];
byte counted[PROPOSERS];       /* sites whose promise, and then whose acceptance, was confirmed */
byte highest[PROPOSERS];       /* the highest ballot accepted, among the promises that count */

byte holders[BALLOTS];         /* ghost: sites where the ballot's acceptance took effect */
byte told;                     /* ghost: ballots that were chosen, or that somebody was told to be chosen */

byte duplicates = DUPLICATES;

/* chains */
typedef Chain {
  byte slot[VERSIONS];
  byte newest;
  byte floor;
  byte prev[RECORDS];
  byte version[RECORDS];
  byte promised[RECORDS];
  byte accepted[RECORDS];
  bit air[RECORDS];
  byte reply[RECORDS];
  bit effective[RECORDS];      /* ghost */
};
#if CHAINS
Chain chain[CHAINS];
#endif

/* registers; the first CHAINS are not used */
byte promised[SITES];
byte accepted[SITES];

/* One extends the other; told has one bit for each ballot. */
inline check_with(b) {
  d_step {
    told = told | (1 << b);
    o = 1;
    do
    :: o < BALLOTS ->
       if
       :: o != b && (told >> o) & 1 ->
          h = (o > b -> o : b); l = (o > b -> b : o);
          do
          :: h > l -> h = base[h]
          :: else -> break
          od;
          assert(h == l)
       :: else
       fi;
       o++
    :: else -> break
    od;
    o = 0; h = 0; l = 0
  }
}

/* An acceptance took effect at a site. */
inline accept_at(s, b) {
  holders[b] = holders[b] | bit_of(s);
  if
  :: count_of(holders[b]) > SITES / 2 && !((told >> b) & 1) ->
     printf("  head %d, built on %d, is chosen\n", b, base[b]);
     check_with(b)
  :: else
  fi
}

/* The proposer takes in a confirmed promise, or acceptance. */
inline take(p, s, ballot) {
  if
  :: phase[p] == PREPARES ->
     counted[p] = counted[p] | bit_of(s);
#ifdef NOT_ADOPTED
     highest[p] = (highest[p] == 0 || ballot < highest[p] -> ballot : highest[p]);
#else
     highest[p] = (ballot > highest[p] -> ballot : highest[p]);
#endif
     printf("%d counts the promise of site %d, which accepted %d\n", p, s, ballot)
  :: else ->
     counted[p] = counted[p] | bit_of(s);
     printf("%d counts the acceptance of site %d\n", p, s);
     if
     :: count_of(counted[p]) == QUORUM ->
        printf("%d is told: head %d is chosen\n", p, ballot_of(p));
        strictly((told >> ballot_of(p)) & 1);
        check_with(ballot_of(p))
     :: else
     fi
  fi
}

/* proposer.prepare until a quorum has promised; commit._value_on; proposer.offer */
proctype Proposer(byte p) {
end:
  atomic {
    count_of(counted[p]) >= QUORUM ->
    base[ballot_of(p)] = highest[p];
    phase[p] = ACCEPTS; counted[p] = 0; highest[p] = 0;
    printf("%d offers head %d, built on %d\n", p, ballot_of(p), base[ballot_of(p)])
  }
}

/* proposer._phase at a site that changes in one step: promise, then accept */
proctype AtRegister(byte p, s) {
  byte o, h, l;
end:
  do
  :: atomic {
       phase[p] == PREPARES && !(counted[p] & bit_of(s)) && ballot_of(p) > promised[s] ->
       promised[s] = ballot_of(p);
       printf("site %d promises %d\n", s, ballot_of(p));
       if
       :: take(p, s, accepted[s])
#ifndef PLAIN
       :: printf("  which is not heard\n")
#endif
       fi
     }
  :: atomic {
       phase[p] == ACCEPTS && !(counted[p] & bit_of(s)) && may_accept(ballot_of(p), promised[s]) ->
       strictly(ballot_of(p) >= promised[s]);
       promised[s] = (promised[s] > ballot_of(p) -> promised[s] : ballot_of(p));
       accepted[s] = ballot_of(p);
       printf("site %d accepts %d\n", s, ballot_of(p));
       accept_at(s, ballot_of(p));
       take(p, s, 0);
       break
     }
  od
}

#if CHAINS
#define C chain[s]

/* Nobody can tell a forgotten record from another: keeps the number of states small. */
inline forget(s, i) {
  if
  :: C.reply[i] == OVER ->
     C.effective[i] = 0;
     if
     :: C.air[i] == 0 && C.slot[C.version[i]] != i ->
        C.prev[i] = 0; C.version[i] = 0; C.reply[i] = WAITS; C.promised[i] = 0; C.accepted[i] = 0
     :: else
     fi
  :: else
  fi
}

inline remove(s, v) {
  d_step {
    x = C.slot[v];
    C.slot[v] = 0;
    if :: x != 0 -> forget(s, x) :: else fi;
    x = 0
  }
}

/* A put request arrives, however late. */
inline land(s, i) {
  C.air[i] = 0;
  if
  :: C.slot[C.version[i]] == 0 ->
     C.slot[C.version[i]] = i;
     if :: C.reply[i] == WAITS -> C.reply[i] = OK :: else fi;
     if
     :: duplicates > 0 -> duplicates--; C.air[i] = 1
     :: true
     fi;
     if
     :: C.version[i] == C.newest + 1 ->
        strictly(C.prev[i] == C.slot[C.newest]);
        strictly(C.promised[i] >= C.promised[C.slot[C.newest]]);
        strictly(C.accepted[i] >= C.accepted[C.slot[C.newest]]);
        C.newest++;
        C.effective[i] = 1;
        printf("  site %d: version %d promises %d, accepted %d\n", s, C.newest, C.promised[i], C.accepted[i]);
        if :: i & 1 -> accept_at(s, C.accepted[i]) :: else fi
     :: else ->
        printf("  site %d: a late put lands in a hole: version %d promises %d, accepted %d\n", s, C.version[i],
          C.promised[i], C.accepted[i])
     fi
  :: else ->
     printf("  site %d: a put is refused, version %d is there\n", s, C.version[i]);
     if :: C.reply[i] == WAITS -> C.reply[i] = REFUSED :: else fi
  fi;
  forget(s, i)
}

/* chain.collect: ascending, each deletion acknowledged before the next; a late or repeated one may come again */
proctype Collect(byte s) {
  byte v, x;
end:
  do
  :: atomic {
       C.floor + 3 <= C.newest -> C.floor++; remove(s, C.floor); printf("  site %d: version %d is collected\n", s, C.floor)
     }
#ifndef PLAIN
  :: atomic {
       C.floor > 0 -> v = 1;
       do
       :: v <= C.floor && C.slot[v] != 0 -> remove(s, v); break
       :: v <= C.floor -> v++
       :: v > C.floor -> break
       od;
       v = 0
     }
#endif
  od
}

/* Requests that nobody waits for any more. */
proctype Late(byte p, s) {
  byte o, h, l;
end:
  do
  :: atomic { C.air[promise_of(p)] && C.reply[promise_of(p)] != WAITS -> land(s, promise_of(p)) }
  :: atomic { C.air[accept_of(p)] && C.reply[accept_of(p)] != WAITS -> land(s, accept_of(p)) }
  od
}

/* acceptor.change_site on a chain, for a promise and then for an acceptance */
proctype AtChain(byte p, s) {
  byte m, i, x, o, h, l;
  m = 0;
prepare:
  atomic {
    phase[p] == PREPARES ->
    i = promise_of(p);
    m = C.newest; x = C.slot[m];  /* chain.read */
    if
    :: ballot_of(p) > C.promised[x] -> skip  /* paxos.promise */
    :: else -> i = 0; m = 0; x = 0; goto accept
    fi;
    C.prev[i] = x; C.version[i] = m + 1; C.promised[i] = ballot_of(p); C.accepted[i] = C.accepted[x];
    C.air[i] = 1;
    x = 0;
    printf("%d reads site %d: version %d; asks for a promise as version %d\n", p, s, m, m + 1);
    m = 0
  }
  goto sent;
accept:
  atomic {
    phase[p] == ACCEPTS ->
    i = accept_of(p);
    if
    :: m == 0 -> m = C.newest; x = C.slot[m]  /* no promise to build on, or others were faster: chain.read */
    :: else -> x = promise_of(p)              /* what its own promise left behind, though it may be old */
    fi;
    if
    :: may_accept(ballot_of(p), C.promised[x])
    :: else -> m = 0; x = 0; goto done
    fi;
    C.prev[i] = x; C.version[i] = m + 1; C.accepted[i] = ballot_of(p);
    C.promised[i] = (C.promised[x] > ballot_of(p) -> C.promised[x] : ballot_of(p));
    C.air[i] = 1;
    printf("%d asks site %d to accept as version %d\n", p, s, m + 1);
    if :: x == promise_of(p) -> C.reply[x] = OVER; forget(s, x) :: else fi;
    x = 0; m = 0
  }
sent:
  /* chain.put_version */
  if
  :: atomic { C.air[i] -> land(s, i) }
  :: skip  /* it does not hear; the put is on its way all the same */
  fi;
look:
  atomic {
    x = C.slot[C.version[i]];
    if
    :: C.reply[i] == OK || x == i -> x = 0; C.reply[i] = OK; goto confirm
    :: else
    fi;
    if
    :: x != 0 && C.air[i] == 0 -> x = 0; C.reply[i] = OVER; forget(s, i); i = 0; printf("%d was refused\n", p)
    :: else -> x = 0; goto unknown
    fi;
    if
    :: phase[p] == PREPARES -> goto prepare
    :: else -> goto accept
    fi
  }
confirm:
  atomic {
    /* chain.confirm */
    m = C.version[i];
    x = C.slot[m + 1];
    if
#ifdef PROMISE_NOT_CONFIRMED
    :: !(i & 1)
#endif
#ifdef NO_CONFIRMATION
    :: true
#endif
    :: C.slot[m - 1] != 0 && (C.newest == m || (x != 0 && C.prev[x] == i)) -> strictly(C.effective[i])
    :: else ->
       printf("%d cannot confirm version %d at site %d\n", p, m, s);
       x = 0; goto unknown
    fi;
    x = 0;
    if
    :: i & 1 -> m = 0; take(p, s, 0); goto unknown
    :: !(i & 1) && phase[p] == PREPARES -> take(p, s, C.accepted[i]); i = 0; goto accept
    :: else -> m = 0; goto unknown
    fi
  }
unknown:
  atomic {
    C.reply[i] = OVER; forget(s, i);
    m = 0;
    if
    :: i & 1 -> i = 0; goto done
    :: else -> i = 0; goto accept
    fi
  }
done:
  skip
}
#endif

#ifdef READER                  /* which sites it can reach: bits */
/* proposer.survey, paxos.agreed: somebody who reads, and believes what a quorum reports as accepted */
proctype Reader() {
  byte first, s, m, x, before, b, o, h, l;
  byte read = ~READER;
  byte reported[SITES];
  atomic {
    first = BALLOTS - 1;
    do
    :: (told >> first) & 1 -> break
    :: else -> first--
    od;
    printf("reader begins\n")
  }
again:
  atomic {
    if
    :: !(read & 1) -> s = 0
#if SITES > 1
    :: !(read & 2) -> s = 1
#endif
#if SITES > 2
    :: !(read & 4) -> s = 2
#endif
    :: (read & READER) == READER -> goto done
    fi;
#if CHAINS
    if
    :: s < CHAINS -> m = C.newest; printf("reader lists site %d: newest is %d\n", s, m)
    :: else -> b = accepted[s]; goto take_in
    fi
#else
    b = accepted[s]; goto take_in
#endif
  }
#if CHAINS
  atomic { x = C.slot[m]; before = C.prev[x]; b = C.accepted[x]; if :: x == 0 -> goto over :: else fi }
#ifndef NO_PREDECESSOR
  atomic { if :: m > 1 && C.slot[m - 1] != before -> goto over :: else fi }
#endif
#ifdef LIST_AGAIN
  atomic { if :: C.newest > m + 1 -> goto over :: else fi }
#endif
#endif
take_in:
  atomic {
    printf("reader reads site %d: accepted %d\n", s, b);
    reported[s] = b; read = read | bit_of(s);
    if
    :: (reported[0] == b) + (SITES > 1 && reported[1] == b) + (SITES > 2 && reported[2] == b) >= QUORUM ->
       printf("reader is told: head %d is chosen\n", b);
       strictly((told >> b) & 1);
       assert(b >= first);
       check_with(b);
       goto done
    :: else -> b = 0; goto over
    fi
  }
over:
  atomic { m = 0; x = 0; before = 0; b = 0; goto again }
done:
  skip
}
#endif

init {
  byte p, s;
  atomic {
    told = 1 << FIRST;
    base[FIRST] = 0;
    for (s : 0 .. SITES - 1) {
      if
#if CHAINS
      :: s < CHAINS ->
         chain[s].slot[1] = FIRST; chain[s].newest = 1;
         chain[s].version[FIRST] = 1; chain[s].promised[FIRST] = FIRST; chain[s].accepted[FIRST] = FIRST;
         chain[s].reply[FIRST] = OVER;
         run Collect(s)
#endif
      :: s >= CHAINS -> promised[s] = FIRST; accepted[s] = FIRST
      fi
    }
    for (p : 0 .. PROPOSERS - 1) {
      run Proposer(p);
      for (s : 0 .. SITES - 1) {
        if
        :: !(((p == 0 -> REACH0 : (p == 1 -> REACH1 : (p == 2 -> REACH2 : REACH3)))) & bit_of(s))
#if CHAINS
        :: else -> if :: s < CHAINS -> run AtChain(p, s); run Late(p, s) :: else -> run AtRegister(p, s) fi
#else
        :: else -> run AtRegister(p, s)
#endif
        fi
      }
    }
#ifdef READER
    run Reader();
#endif
    p = 0; s = 0
  }
}
