/* One acceptor on a store that can only put if absent: drtool/manifest/chain.py, one request a step.
 *
 * Proposers read the site, put the next version, look who is there, confirm. A put may be answered, refused, or lost on
 * the way and land whenever it likes; collection deletes old versions at any time, by anybody, with a stale idea of the
 * newest. What a record says (promise, acceptance) does not matter here: it was computed from the record before.
 *
 * Must hold: what was confirmed took effect; what was read was the memory when it was listed; the newest two versions
 * are there. Together: the chain behaves as one register that is read and changed at one moment.
 *
 * DUPLICATES=n: n puts may arrive twice, the founding one among them. LIST_AGAIN: a reader lists once more at the end, which
 * drtool does not do. Broken variants, and what all this shows: models/README.md.
 */

#ifndef PROPOSERS
#define PROPOSERS 3
#endif
#ifndef PUTS
#define PUTS 2                 /* put requests of each proposer */
#endif
#ifndef DUPLICATES
#define DUPLICATES 0
#endif

#define FIRST 1                /* the founding record; 0 is no record */
#ifdef SLOW_FOUNDER            /* another record that wants to be version 1 is still on its way */
#define SLOW (2 + PROPOSERS * PUTS)
#define RECORDS (3 + PROPOSERS * PUTS)
#else
#define RECORDS (2 + PROPOSERS * PUTS)
#endif
#define VERSIONS (3 + PROPOSERS * PUTS)
#define id_of(p, k) (2 + (p) * PUTS + (k))

#define WAITS 0
#define OK 1
#define REFUSED 2
#define OVER 3                 /* nobody waits for the answer any more */

byte slot[VERSIONS];           /* the record that lies under each name */
byte newest = 1;               /* the highest version there is; never deleted, so a listing shows it */
byte floor;                    /* every version up to here has been deleted once */
byte prev[RECORDS];            /* what each record was built on */
byte version[RECORDS];         /* which version each record is */
byte air[RECORDS];             /* put requests on their way */
byte reply[RECORDS];
byte duplicates = DUPLICATES;  /* the first one is the founding put's */
bit effective[RECORDS];        /* ghost: it was the newest once */

/* Nobody can tell a forgotten record from another: keeps the number of states small. */
inline forget(i) {
  if
  :: reply[i] == OVER ->
     effective[i] = 0;
     if
     :: air[i] == 0 && slot[version[i]] != i -> prev[i] = 0; version[i] = 0; reply[i] = WAITS
     :: else
     fi
  :: else
  fi
}

inline land(i) {
  d_step {
    air[i]--;
    if
    :: slot[version[i]] == 0 ->
       slot[version[i]] = i;
       if
       :: version[i] == newest + 1 ->
          assert(prev[i] == slot[newest]);
          newest++;
          effective[i] = 1;
          printf("  record %d takes effect as version %d\n", i, newest)
       :: else -> printf("  record %d lands late, in a hole, as version %d\n", i, version[i])
       fi;
       if :: reply[i] == WAITS -> reply[i] = OK :: else fi
    :: else ->
       printf("  record %d is refused: version %d is record %d\n", i, version[i], slot[version[i]]);
       if :: reply[i] == WAITS -> reply[i] = REFUSED :: else fi
    fi;
    forget(i)
  }
}

inline remove(v) {
  d_step {
    x = slot[v];
    slot[v] = 0;
    if :: x != 0 -> forget(x) :: else fi;
    x = 0
  }
}

proctype Request(byte i) {
end:
  do
  :: atomic { air[i] > 0 -> land(i) }
  :: atomic { air[i] == 1 && duplicates > 0 -> duplicates--; air[i]++ }
  od
}

/* chain.collect: ascending, each deletion acknowledged before the next; a late or repeated one may come again */
proctype Collect() {
  byte v, x;
end:
  do
  :: atomic { floor + 3 <= newest -> floor++; remove(floor); printf("version %d is collected\n", floor) }
  :: atomic {
       floor > 0 -> v = 1;
       do
       :: v <= floor && slot[v] != 0 -> remove(v); printf("version %d is deleted again\n", v); break
       :: v <= floor -> v++
       :: v > floor -> break
       od;
       v = 0
     }
  od
}

proctype Proposer(byte p) {
  byte k, m, r, before, listed, i, x;
read:
  /* chain.read: list, read the newest, read the one before */
  atomic {
    if :: k == PUTS -> goto done :: else fi;
    r = 0; before = 0; i = 0; x = 0; m = newest; listed = slot[m]; printf("%d lists: newest is %d\n", p, m) }
  atomic { r = slot[m]; before = prev[r]; if :: r == 0 -> goto read :: else fi }
#ifndef NO_PREDECESSOR
  atomic { if :: m > 1 && slot[m - 1] != before -> goto read :: else fi }
#endif
#ifdef LIST_AGAIN
  atomic { if :: newest > m + 1 -> goto read :: else fi }
#endif
  atomic {
    printf("%d reads version %d: record %d\n", p, m, r);
    assert(r == listed);
    listed = 0; before = 0
  }
change:
  atomic {
    if
    :: k == PUTS -> goto done
    :: else
    fi;
    i = id_of(p, k); k++;
    prev[i] = r; version[i] = m + 1; air[i] = 1;
    printf("%d puts record %d as version %d, built on record %d\n", p, i, m + 1, r)
  }
  /* chain.put_version */
  if
  :: atomic { reply[i] == OK -> goto confirm }
  :: atomic {
       reply[i] != OK ->  /* refused, or not heard of */
       x = slot[version[i]];
       printf("%d was refused or hears nothing, looks: version %d is record %d\n", p, version[i], x);
       if
       :: x == i -> reply[i] = OK; goto confirm
       :: else -> goto over  /* unknown, or the next attempt: both begin with reading */
       fi
     }
  fi;
confirm:
  /* chain.confirm: list; read the one after if there is one */
#ifndef NO_CONFIRMATION
  atomic {
    m = version[i];
    printf("%d lists to confirm record %d: newest is %d\n", p, i, newest);
    if
    :: slot[m - 1] != 0 && newest == m -> goto confirmed
    :: slot[m - 1] != 0 && slot[m + 1] != 0
    :: else -> goto over
    fi
  }
  atomic {
    x = slot[m + 1];
    if
    :: x != 0 && prev[x] == i -> printf("%d sees record %d built on %d\n", p, x, i); goto confirmed
    :: else -> goto over
    fi
  }
#else
  goto confirmed;
#endif
over:
  atomic { m = 0; x = 0; reply[i] = OVER; forget(i); goto read }
confirmed:
  atomic {
    m = version[i];
    printf("%d counts record %d as version %d\n", p, i, m);
    assert(effective[i]);
    reply[i] = OVER; forget(i);
    r = i; x = 0;
    goto change
  }
done:
  skip
}

init {
  byte n;
  atomic {
    slot[1] = FIRST; version[FIRST] = 1; reply[FIRST] = OVER;
#if DUPLICATES
    air[FIRST] = 1; duplicates--; run Request(FIRST);
#endif
#ifdef SLOW_FOUNDER
    version[SLOW] = 1; air[SLOW] = 1; reply[SLOW] = OVER;
#endif
    for (n : 2 .. RECORDS - 1) { run Request(n) }
    for (n : 0 .. PROPOSERS - 1) { run Proposer(n) }
    run Collect();
    n = 0
  }
}
