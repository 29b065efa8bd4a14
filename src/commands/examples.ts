/** Of each command, by its name: what one wants, and the line that does it. */
export const EXAMPLES: Readonly<Record<string, readonly (readonly [what: string, line: string])[]>> = {
  worker: [
    ["Serve the beamline, and take over each edit of mento.yaml", "mento worker -c mento.yaml --watch"],
  ],
  publish: [
    [
      "Announce a file, and print what becomes of it",
      "mento publish data-ready --path /gpfs/current/raw/s1.h5 --wait",
    ],
  ],
  "publish data-ready": [
    [
      "Announce a file, and print what becomes of it",
      "mento publish data-ready --path /gpfs/current/raw/s1.h5 --wait",
    ],
  ],
  run: [
    [
      "Run a program on the beamtime's nodes, and print what it prints",
      "mento run --follow /asap3/petra3/gpfs/common/p11/bin/integrate /gpfs/current/raw/s1/scan_0001_master.h5",
    ],
    [
      "A script of your own: its #SBATCH lines count",
      "mento run --time 00:20:00 /asap3/petra3/gpfs/common/p11/bin/own.sbatch",
    ],
    ["Here, without Slurm", "mento run --method local-bash-script ./show.sh /gpfs/current/processed/a.dat"],
  ],
  init: [["Write mento.yaml for the beamtime that is open", "mento init"]],
  validate: [
    ["All mistakes of a configuration, with their places", "mento validate mento.yaml"],
    ["A message from a program", "mento validate - --json"],
  ],
  status: [["Is all well? Again every 2 s", "mento status --watch"]],
  trace: [
    ["Why was this file not processed?", "mento trace scan_0001_master.h5"],
    ["What became of Slurm's job", "mento trace 48213 --follow"],
  ],
  jobs: [["What failed or waits, of the last two hours", "mento jobs --state failed waiting --since 2h"]],
  logs: [["What a running job prints", "mento logs 48213 --follow"]],
  watch: [
    ["The last two hours, and all that follows", "mento watch --since 2h"],
    ["What became of one scan, and end", "mento watch --since 1d --no-follow --path scan_0001"],
  ],
  match: [["Which triggers want a message, before it is sent", "mento match message.json"]],
  beamtime: [["The beamtime that is open", "mento beamtime show"]],
  "beamtime show": [["One that is not open", "mento beamtime show 11010000"]],
  doctor: [["Is everything there that a message needs to become a job?", "mento doctor"]],
  cancel: [
    ["All jobs of a file that have not ended", 'mento cancel scan_0001_master.h5 --reason "wrong geometry"'],
    ["One of Slurm's", "mento cancel 48213"],
  ],
  dead: [["Why messages were given up, by their errors", "mento dead summary"]],
  "dead list": [["Of one beamline, since the evening", "mento dead list --beamline p11 --since 12h"]],
  "dead summary": [["Of all groups", "mento dead summary --all-groups"]],
  "dead show": [["Everything of one", "mento dead show k3f7"]],
  "dead replay": [
    ["What would run of those that found no data", "mento dead replay --code waited-too-long --dry-run"],
  ],
  "dead drop": [["Those of one kind", "mento dead drop --code wrong-schema"]],
  replay: [
    [
      "What a trigger would run of the last night, and has not run yet",
      "mento replay --trigger azimuthal --since 12h --dry-run",
    ],
  ],
  ssh: [["A command on a reserved node", "mento ssh -- squeue --me"]],
  completion: [["For this shell", "source <(mento completion bash)"]],
  facility: [["A facility of your own, to try Mento on", "mento facility up --dir /tmp/facility"]],
  "facility up": [["Start all of it", "mento facility up --dir /tmp/facility"]],
  "facility down": [["End all of it", "mento facility down --dir /tmp/facility"]],
  "facility status": [["What runs, and is open", "mento facility status --dir /tmp/facility"]],
  "facility start-beamtime": [
    [
      "With a reservation",
      "mento facility start-beamtime --dir /tmp/facility --beamtimeId 11010000 --beamline p11 --online",
    ],
  ],
  "facility stop-beamtime": [
    ["Close it", "mento facility stop-beamtime --dir /tmp/facility --beamtimeId 11010000 --beamline p11"],
  ],
  "facility start-commissioning": [
    [
      "With a reservation",
      "mento facility start-commissioning --dir /tmp/facility --tag align --beamline p11 --online",
    ],
  ],
  "facility stop-commissioning": [
    ["Close it", "mento facility stop-commissioning --dir /tmp/facility --beamline p11"],
  ],
};
