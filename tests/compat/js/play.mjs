// Plays the scenario named on the command line: JSON in, JSON out. What it throws ends the process.
import { text } from "node:stream/consumers";

export const play = async (scenarios) => {
  const result = await scenarios[process.argv[2]](JSON.parse(await text(process.stdin)));
  process.stdout.write(JSON.stringify(result));
};
