// The parts of --help that are not about single options: how to call the program, and what its exit status means.

export const USAGE = `blocksync [sync] SOURCE... DESTINATION [options]   make DESTINATION equal to SOURCE
       blocksync verify SOURCE... DESTINATION [options]   compare only, write nothing
       blocksync verify --receipt FILE DISK [options]     is it still what the receipt says?
       blocksync digest DISK [options]                    the root digest of one disk
       blocksync status [DISK...] [options]               what was synced to what, as recorded here
       blocksync undo DISK [options]                      back to before the last run with --undo
       blocksync doctor [HOST] [options]                  what works here, and there
       blocksync migrate GUEST HOST [options]             move a guest to another host
       blocksync replicate COMMAND [JOB] [options]        make replicas again and again, and use them
       blocksync check [JOB...] [options]                 how old replicas are, for monitors
       blocksync bwlimit [RATE [PID]]                     show runs, or give one another limit
       blocksync serve                                    the far end; started over ssh by the other side`

export const DESCRIPTION = `Makes one block device or disk image equal to another and sends only what differs.

/path and ./path are here; [user@]host:/path and ssh://[user@]host[:port]/path are on another host; host: or host
alone means the same path as the other operand. Several SOURCEs go to one host, host: or host:/directory/.
SIZE and RATE take K M G T (1024-based) and KB MB GB TB (1000-based).`

export const EXAMPLES = `Examples:
  blocksync /dev/vg/web host2                          push to the same path on host2
  blocksync host2:/srv/db.img ./db.img --create        pull, making the image file here
  blocksync -n --stats /dev/vg/web host2:/dev/vg/web   only look how much would be sent
  blocksync verify /dev/vg/web host2`

export const EXIT_STATUSES = `Exit status:
  0    done and on stable storage, or (verify, dry run) identical
  1    verify or dry run: the two differ
  2    usage: nothing was opened
  3    a guard refused (in use, same disk, sizes differ, missing...): nothing was written
  4    the other side could not be reached, or refused us
  5    the source could not be read
  6    the destination could not be written; how far it got is said
  7    verification failed: the destination is not what was sent
  8    the connection broke or the far end died: run again, it continues from what is there
  9    a migration or a hook stopped it; the guest is where it was, and can run there
  10   a migration stopped and nothing was started; what to type is said
  11   --rescue: all is done but what of the source could not be read
  70   a defect in blocksync
  130  interrupted by SIGINT, 143 by SIGTERM; everything acknowledged is on disk`
