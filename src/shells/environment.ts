/**
 * What of an account's environment (its `.bashrc`, or the Slurm job that a worker runs in) is taken out before any of
 * our commands run there: it would change what they do, or what they print. One place for all of them, over SSH and here.
 */

/**
 * Variables that Slurm's programs take for options, and those that Slurm sets in a job: sbatch(1), squeue(1), sacct(1),
 * scontrol(1), sinfo(1) and scancel(1) of 22.05 and 24.11, ENVIRONMENT VARIABLES. `SBATCH_ARRAY_INX` would run a program
 * several times, `SBATCH_WAIT` hold a channel, `SQUEUE_STATES` hide jobs. By their prefixes: another version has others.
 */
const SLURM_PREFIXES = [
  ...["SBATCH", "SALLOC", "SRUN", "SQUEUE", "SACCT", "SCONTROL", "SINFO", "SCANCEL"],
  ...["SLURM", "SLURMD", "SLURMSTEPD", "SPANK", "_SLURM"],
];

/** They say where Slurm is and who asks, not what is asked: slurm.conf, the servers that have it, and credentials. */
const SLURM_STAYS = [
  "SLURM_CONF",
  "SLURM_CONF_SERVER",
  "SLURM_JWT",
  "SLURM_SACK_KEY",
  "SLURM_SACK_JWKS",
] as const;

/**
 * Put aside while our commands run, and given back to the programs that users get ({@link AS_ACCOUNT}): the language and
 * time zone of messages, what a shell reads at its start, and what GNU's programs take for options.
 */
const PUT_ASIDE = [
  ...["LC_ALL", "TZ", "BASH_ENV", "ENV", "CDPATH", "POSIXLY_CORRECT", "_POSIX2_VERSION", "GREP_OPTIONS"],
  ...[
    "QUOTING_STYLE",
    "TIME_STYLE",
    "BLOCK_SIZE",
    "BLOCKSIZE",
    "LS_BLOCK_SIZE",
    "DF_BLOCK_SIZE",
    "DU_BLOCK_SIZE",
  ],
];

/**
 * Keeps the environment that a script was given, before it sets a variable of its own: one that the account has exported
 * would reach the account's programs with the script's value. Bash cannot set again what it holds read-only.
 */
export const KEEP_ENVIRONMENT = `command export -n SHELLOPTS BASHOPTS UID EUID PPID 2>/dev/null
mento_environment=$(export -p)`;
/** In a subshell, before its program. */
export const GIVE_BACK_ENVIRONMENT = `eval "$mento_environment"
  cd -P . 2>/dev/null`;

/**
 * A function of the shell: runs a command in the account's own environment, less Slurm's variables. A job's program gets
 * its environment from `sbatch`, which takes all that it is given itself.
 */
export const AS_ACCOUNT = "as_account";

/** Comes before the first of our commands. A value may hold anything, also what looks like another variable. */
export const OWN_ENVIRONMENT = `set +aCefuvx
${KEEP_ENVIRONMENT}
mento_unset=
set -f
for mento_name in $mento_environment; do
  mento_name=\${mento_name%%=*}
  case $mento_name in
    *[!A-Za-z0-9_]*) ;;
    ${SLURM_STAYS.join(" | ")}) ;;
    ${SLURM_PREFIXES.map((prefix) => `${prefix}_*`).join(" | ")}) unset "$mento_name"; mento_unset=yes ;;
  esac
done
set +f
[ -z "$mento_unset" ] || mento_environment=$(export -p)
unset ${PUT_ASIDE.join(" ")}
export LC_ALL=C
${AS_ACCOUNT}() (
  unset LC_ALL
  ${GIVE_BACK_ENVIRONMENT}
  exec "$@"
)`;
