/**
 * Whether a queue bound with this key to a topic exchange gets messages of this routing key: `*` is one word, `#` any
 * number of words, none included (https://www.rabbitmq.com/tutorials/tutorial-five-javascript#topic-exchange).
 */
export function bindingFits(binding: string, routingKey: string): boolean {
  return fits(binding.split("."), routingKey === "" ? [] : routingKey.split("."));
}

function fits([wanted, ...wantedRest]: string[], words: string[]): boolean {
  if (wanted === undefined) return words.length === 0;
  if (wanted === "#")
    return fits(wantedRest, words) || (words.length > 0 && fits(["#", ...wantedRest], words.slice(1)));
  const [word, ...rest] = words;
  return word !== undefined && (wanted === "*" || wanted === word) && fits(wantedRest, rest);
}
